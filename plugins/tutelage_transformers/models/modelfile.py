"""Ollama's Modelfile: the template in Go's language, the stop tokens and the sampling parameters.

Ollama does not read chat templates of transformers. A Go template is written only for a known form of template, and
only if this form renders probe conversations exactly as the checkpoint's own template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from tutelage.records import Sampling
from tutelage_transformers.models.chat import prompt_text

Turns = Sequence[tuple[str, str]]
"""The role and the text of each message."""

_PROBES: Sequence[Turns] = (
    (("user", "Which words?"),),
    (("user", "Which words?"), ("assistant", "All of them."), ("user", "Which order?")),
    (("system", "Keep every word."), ("user", "Which words?")),
    (("system", "Keep it."), ("user", "Which?"), ("assistant", "All."), ("user", "Why?")),
)


@frozen
class Form:
    """A form of chat templates: each message between an opening and a closing text."""

    name: str
    opening: Mapping[str, str]
    """The text before a message, by role."""
    closing: Mapping[str, str] = field(factory=dict)
    """The text after a message, by role. ``{end}`` is the end token."""
    between: str = ""
    """The text between two messages."""
    answer: str = ""
    """The text before the answer, after the last message."""
    merges_system: bool = False
    """Whether the system message is put before the text of the first user message."""

    def render(self, turns: Turns, end: str) -> str:
        """Return a conversation up to the opening of the answer."""
        if self.merges_system and turns[0][0] == "system":
            (_, system), (role, text), *others = turns
            turns = [(role, f"{system}\n\n{text}"), *others]
        parts = [
            f"{self.opening.get(role, '')}{text}{self.closing.get(role, '').format(end=end)}" for role, text in turns
        ]
        return self.between.join(parts) + self.answer

    def go_template(self, end: str) -> str:
        """Return the template in Go's language, in one line, as Ollama's TEMPLATE."""
        roles = [role for role in self.opening if not (self.merges_system and role == "system")]
        between = "{{ if $i }}" + _literal(self.between) + "{{ end }}" if self.between else ""
        opening = between + _choice({role: self.opening[role] for role in roles})
        closing = _choice({role: text.format(end=end) for role, text in self.closing.items() if role in roles})
        if self.merges_system:
            user, gap = _literal(self.opening["user"]), _literal("\n\n")
            follows = 'and (eq $i 1) (eq (index $.Messages 0).Role "system")'
            system = f'{{{{ if eq .Role "system" }}}}{user}{{{{ else if {follows} }}}}{gap}'
            opening = f"{system}{{{{ else }}}}{opening}{{{{ end }}}}"
        message = f"{opening}{{{{ .Content }}}}{closing}"
        return f"{{{{- range $i, $_ := .Messages }}}}{message}{{{{ end }}}}{_literal(self.answer)}"


def _literal(text: str) -> str:
    """A text in a Go template, with line ends that no editor changes."""
    if "\n" not in text and '"' not in text:
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{{{{ "{quoted}" }}}}'


def _choice(texts: Mapping[str, str]) -> str:
    """A text by the role of the message."""
    branches = [f'if eq .Role "{role}" }}}}{_literal(text)}' for role, text in texts.items() if text]
    return f"{{{{ {'{{ else '.join(branches)}{{{{ end }}}}" if branches else ""


_ROLES = ("system", "user", "assistant")
_MERGED = ("user", "assistant")


def _forms() -> list[Form]:
    marked = {role: f"<|{role}|>" for role in _ROLES}
    chatml = {role: f"<|im_start|>{role}\n" for role in _ROLES}
    gemma = {"user": "<start_of_turn>user\n", "assistant": "<start_of_turn>model\n"}
    llama = {role: f"<|start_header_id|>{role}<|end_header_id|>\n\n" for role in _ROLES}
    phi = {role: f"<|{role}|>\n" for role in _ROLES}
    plain = {"user": "Instruct: ", "assistant": "Output:\n"}
    forms = [
        Form("tutelage, with markers", marked, {"assistant": "{end}"}, answer="<|assistant|>"),
        Form("tutelage", plain, {"assistant": "{end}"}, between="\n", answer="\nOutput:\n"),
        Form("ChatML", chatml, dict.fromkeys(_ROLES, "<|im_end|>\n"), answer=chatml["assistant"]),
        Form("Gemma", gemma, dict.fromkeys(_ROLES, "<end_of_turn>\n"), answer=gemma["assistant"]),
        Form("Llama 3", llama, dict.fromkeys(_ROLES, "<|eot_id|>"), answer=llama["assistant"]),
        Form("Phi-3", phi, dict.fromkeys(_ROLES, "<|end|>\n"), answer=phi["assistant"]),
    ]
    merged = [
        Form(form.name, {r: form.opening[r] for r in _MERGED}, form.closing, form.between, form.answer, True)
        for form in forms
    ]
    return [*forms, *merged]


def form_of(tokenizer: Any) -> Form | None:
    """Return the known form that renders the probes as the tokenizer's chat template; None if there is none."""
    end, begin = str(tokenizer.eos_token), _begin(tokenizer)

    def renders(form: Form) -> bool:
        return all(f"{begin}{form.render(turns, end)}" == _rendered(tokenizer, turns) for turns in _PROBES)

    return next((form for form in _forms() if renders(form)), None)


def _begin(tokenizer: Any) -> str:
    """The token that begins a conversation. llama.cpp adds it if the tokenizer does."""
    first = tokenizer("").input_ids[:1]
    return str(tokenizer.bos_token) if first and first[0] == tokenizer.bos_token_id else ""


def _rendered(tokenizer: Any, turns: Turns) -> str:
    return prompt_text(tokenizer, [{"role": role, "content": text} for role, text in turns])


def modelfile(tokenizer: Any, ends: Sequence[int], sampling: Sampling | None, file: str) -> str:
    """Return the text of the Modelfile of ``file``.

    ``ends`` are the tokens that end an answer. If the chat template has no known form, TEMPLATE is left out, and a
    comment states it.
    """
    form, end = form_of(tokenizer), str(tokenizer.eos_token)
    lines = [f"FROM ./{file}"]
    if form is None:
        lines += [
            "# TEMPLATE is missing: the chat template of this model has none of the forms that tutelage can write",
            "# in Go's template language. Ollama would send prompts as they are. Add a TEMPLATE that renders a",
            "# conversation as the chat template in tokenizer.chat_template of the file does.",
        ]
    else:
        lines.append(f'TEMPLATE """{form.go_template(end)}"""')
    lines += [f'PARAMETER stop "{text}"' for text in tokenizer.convert_ids_to_tokens(list(ends))]
    if sampling is not None:
        lines += [
            f"PARAMETER temperature {sampling.temperature:g}",
            f"PARAMETER top_p {sampling.top_p:g}",
            f"PARAMETER top_k {sampling.top_k or 0}",  # always, because Ollama has defaults of its own
            f"PARAMETER min_p {sampling.min_p:g}",
            "PARAMETER repeat_penalty 1",
        ]
    return "\n".join(lines) + "\n"
