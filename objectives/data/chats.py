"""Rows with `messages`, a list of turns with `role` and `content`: dialogues and instructions.

The completion is the last turn of the assistant, the prompt the turns before it, a line each with
its role. Turns after it are not used. Content may be text or a list of parts of type text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ASSISTANT = "assistant"


class NoTextError(Exception):
    """A field that a row needs is null, missing or empty; such rows are left out and counted."""

    def __init__(self, name: str, reason: str = "") -> None:
        super().__init__(name)
        self.reason = reason
        """What is lacking in it, if it is there."""


def prompt_and_completion(messages: Any, where: str) -> tuple[str, str]:
    """The turns before the assistant's last one, and that.

    Raises:
        NoTextError: there is no such turn, or one before it or itself has no content.
        ValueError: what is no list of turns with role and content; `where` names the row.
    """
    if messages is None or messages == []:
        raise NoTextError("messages", "no turn is in it")
    if not isinstance(messages, list):
        raise ValueError(
            f"{where} needs a list of turns with role and content under 'messages', got "
            f"{type(messages).__name__}; write the rows as JSON Lines or Parquet."
        )
    turns = [_turn(turn, f"{where}: turn {number}") for number, turn in enumerate(messages, 1)]
    last = max((place for place, (role, _) in enumerate(turns) if role == ASSISTANT), default=0)
    if last == 0:
        roles = ", ".join(dict.fromkeys(role for role, _ in turns))
        raise NoTextError(
            "messages", f"no turn of role 'assistant' comes after another; its roles are {roles}"
        )
    if any(content is None for _, content in turns[:last]) or not (turns[last][1] or "").strip():
        raise NoTextError("messages", "a turn has no content")
    before = "".join(f"{role.capitalize()}: {content}\n" for role, content in turns[:last])
    return f"{before}Assistant:", f" {(turns[last][1] or '').strip()}"


def _turn(turn: Any, where: str) -> tuple[str, str | None]:
    """Role and content; None for a content that is null."""
    if not isinstance(turn, Mapping):
        raise ValueError(
            f"{where} must be an object with role and content, got {type(turn).__name__}."
        )
    if lacking := [name for name in ("role", "content") if name not in turn]:
        raise ValueError(
            f"{where} has no {' and no '.join(lacking)}; its fields are "
            f"{', '.join(map(str, turn)) or '(none)'}: name them role and content."
        )
    role = turn["role"]
    if not isinstance(role, str) or not role.strip():
        raise ValueError(
            f"{where} needs text as its role, such as user or assistant, got {role!r}."
        )
    return role.strip().lower(), _content(turn["content"], where)


def _content(content: Any, where: str) -> str | None:
    if content is None or isinstance(content, str):
        return content
    kinds = [part.get("type") for part in content if isinstance(part, Mapping)] if isinstance(
        content, list
    ) else []  # fmt: skip
    if not isinstance(content, list) or kinds != ["text"] * len(content):
        raise ValueError(
            f"{where} needs text as its content, got {_kind(content, kinds)}; give text, or leave "
            "the row out."
        )
    texts = [part.get("text") for part in content]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where} has a part of type text without text; give it, or leave it out.")
    return "".join(texts)


def _kind(content: Any, kinds: list[Any]) -> str:
    """What a content is that is no text."""
    other = next((kind for kind in kinds if kind != "text"), None)
    return f"a part of type {other!r}" if other is not None else type(content).__name__
