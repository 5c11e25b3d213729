"""`python -m objectives.config`: every hyperparameter of a recipe as JSON, with its default."""

from __future__ import annotations

import json

from objectives.config.recipe import SHORT_FORMS, Recipe
from objectives.config.reference import as_json, parameters

print(json.dumps(as_json(parameters(Recipe(), SHORT_FORMS)), allow_nan=False))
