"""Statements beside Optuna's own: made once, or of what it has no method for."""

from __future__ import annotations

import functools
from typing import Any

from optuna.storages._rdb.models import TrialModel
from sqlalchemy import bindparam, column, select, table
from sqlalchemy.dialects import mysql, postgresql, sqlite

VERSIONS = {"version_info": "schema_version", "alembic_version": "version_num"}
"""Tables in which Optuna notes its schema's version, where there is none."""


STUDIES = table("studies", column("study_id"), column("study_name"))


TRIALS = table("trials", column("study_id"))


STATE_OF_TRIAL = select(TrialModel.__table__.c.state).where(
    TrialModel.__table__.c.trial_id == bindparam("trial")
)


@functools.cache
def upsert(dialect: str, model: Any) -> Any:
    """Write an attribute of a trial, whether it is there or not."""
    rows = model.__table__
    if dialect == "mysql":
        new = mysql.insert(rows)
        return new.on_duplicate_key_update(value_json=new.inserted.value_json)
    insert = postgresql.insert(rows) if dialect == "postgresql" else sqlite.insert(rows)
    return insert.on_conflict_do_update(
        index_elements=[rows.c.trial_id, rows.c.key],
        set_={"value_json": insert.excluded.value_json},
    )
