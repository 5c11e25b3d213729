"""`python -m objectives.config`: every hyperparameter of a recipe as JSON, with its default."""

from __future__ import annotations

import json

from objectives.config.recipe import Recipe
from objectives.config.reference import as_json, parameters
from objectives.config.tree import SHORT_FORMS

print(json.dumps(as_json(parameters(Recipe(), SHORT_FORMS)), allow_nan=False))
