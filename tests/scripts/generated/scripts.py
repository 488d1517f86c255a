"""Whole scripts from the pieces, and their bytes in every encoding and layout."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.scripts.generated.pieces import (
    ARGUMENTS,
    BACKWARDS,
    BUILDS,
    CONFIGS,
    DECORATORS,
    DISTRIBUTED,
    HELPERS,
    IMPORTS,
    NOISE,
    OPTIMIZERS,
    OWN,
    RESULTS,
    SIGNATURES,
    STEPS,
    UNUSABLE,
)


@dataclass(frozen=True)
class Script:
    """A generated script, and what its calls are expected to pass as a temperature (None: as before)."""

    text: str
    tau: float | None
    pieces: dict[str, str]


def indent(text: str, depth: int = 1) -> str:
    return "\n".join("    " * depth + line if line else line for line in text.split("\n"))


def one(draw: st.DrawFn, values: Any) -> Any:
    return draw(st.sampled_from([*values]))


def drawn_call(draw: st.DrawFn, callee: str, pieces: dict[str, str]) -> tuple[str, bool]:
    pieces["arguments"] = one(draw, ARGUMENTS)
    arguments, has_tau = ARGUMENTS[pieces["arguments"]]
    pieces["result"] = one(draw, RESULTS)
    gap = one(draw, ["", "", "", " "])
    lines = []
    for line in pieces["result"].split("\n"):
        column = line[: len(line) - len(line.lstrip())]
        written = arguments
        if 'f"' in line:
            written = ", ".join(part.strip() for part in re.sub(r"#[^\n]*", "", written).split("\n")).replace(",,", ",")
            written = re.sub(r"(?:, )+", ", ", written.replace("'", "").replace("mean", "None")).strip(", ")
        lines.append(line.replace("CALL", f"{callee}{gap}({written})".replace("\n", f"\n{column}")))
    return "\n".join(lines), has_tau


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    pieces: dict[str, str] = {}
    pieces["import"] = one(draw, IMPORTS)
    top, inside, callee = IMPORTS[pieces["import"]]
    pieces["config"] = one(draw, CONFIGS)
    pieces["distributed"] = one(draw, DISTRIBUTED)
    pieces["shape"] = one(draw, ["function", "function", "method", "method with config", "static method", "module"])
    call, has_tau = drawn_call(draw, callee, pieces)
    head = one(draw, ["", '"""Trains."""\n', "from __future__ import annotations\n", "# 训练\n\n"])
    usual = (
        "import contextlib\nimport dataclasses\nimport functools\nimport torch\nimport torch.nn\nimport torch.optim\n"
    )
    usual += "from dataclasses import dataclass\nfrom torch.nn.utils import clip_grad_norm_\n"
    others = [usual, top + "\n", pieces["distributed"] + "\n"]
    imports = "".join(draw(st.permutations(others)))
    if draw(st.booleans()):
        imports += "import collections\n"
    text = head + imports + "\n\n" + CONFIGS[pieces["config"]] + "\n" + HELPERS + "\n\n"

    has_config = pieces["config"] != "none"
    noise = one(draw, NOISE)
    pieces["noise"] = noise
    train, takes = _training(draw, pieces, has_config)
    if pieces["shape"] == "module":
        text += _at_module_level(draw, pieces, call, inside, has_config)
        is_used = in_reach = has_config
    else:
        text += _functions(draw, pieces, call, inside, noise, train, takes)
        is_used = has_config and (pieces["main"] != "without" or pieces["takes config"] == "yes")
        in_reach = is_used and (pieces["transparent"] == "yes" or pieces["takes config"] == "yes")
        if pieces["result"].startswith("def inner(x)") and pieces["takes config"] == "no":
            in_reach = False  # a value is handed through one function, not through two
    if pieces["config"] in UNUSABLE:
        in_reach = False
    tau = 0.7 if has_tau else 0.21 if is_used and pieces["config"] in OWN else 0.123 if in_reach else 0.07
    return Script(text, tau, pieces)


def _training(draw: st.DrawFn, pieces: dict[str, str], has_config: bool) -> tuple[str, str]:
    """A loop with the model, the optimizer and the step; RUN stands for the call of what computes the loss."""
    pieces["build"], pieces["optimizer"] = one(draw, BUILDS), one(draw, OPTIMIZERS)
    pieces["step"], backward = one(draw, STEPS), one(draw, BACKWARDS)
    pieces["main"] = one(draw, ["config", "config", "without", "made inside"]) if has_config else "without"
    every = "cfg.every" if pieces["main"] != "without" else "2"
    loop = f"loss = RUN\n{backward}\n{pieces['step'].replace('EVERY', every)}"
    body = f"{pieces['build']}\n{pieces['optimizer']}\nscaler = torch.GradScaler()\n"
    body += f"for step, (h, a, mask) in enumerate(batches(4)):\n{indent(loop)}"
    if pieces["main"] == "made inside":
        body = f"cfg = Config()\n{body}"
    return body, "cfg: Config" if pieces["main"] == "config" else ""


def _at_module_level(draw: st.DrawFn, pieces: dict[str, str], call: str, inside: str, has_config: bool) -> str:
    made = "cfg = Config()\n" if has_config else ""
    imported_here = f"{inside}\n" if inside else ""
    every = "cfg.every" if has_config else "2"
    loop = f"model = energy_model\n{call}\n{one(draw, BACKWARDS)}\n{pieces['step'].replace('EVERY', every)}"
    body = f"{made}{imported_here}{pieces['build']}\n{pieces['optimizer']}\nscaler = torch.GradScaler()\n"
    return body + f"for step, (h, a, mask) in enumerate(batches(4)):\n{indent(loop)}\n"


def _functions(
    draw: st.DrawFn, pieces: dict[str, str], call: str, inside: str, noise: str, train: str, takes: str
) -> str:
    shape = pieces["shape"]
    has_config = pieces["config"] != "none"
    pieces["takes config"] = "no"
    names = ["model", "h", "a", "mask"]
    passed = ["energy_model", "h", "a", "mask"]
    annotated = draw(st.booleans())
    if shape == "function" and has_config and pieces["main"] != "without" and draw(st.booleans()):
        names.append("cfg: Config")
        passed.append("cfg")
        pieces["takes config"] = "yes"
    if annotated:
        names = [name if ":" in name else f"{name}: object" for name in names]
    decorator = one(draw, DECORATORS) if shape == "function" else "@staticmethod\n" if shape == "static method" else ""
    pieces["decorator"] = decorator
    pieces["transparent"] = "yes" if DECORATORS.get(decorator, True) else "no"
    signature = one(draw, SIGNATURES)
    pieces["signature"] = signature
    receiver = ["self"] if shape in ("method", "method with config") else []
    separator = ",\n    " if signature.startswith("(\n") and draw(st.booleans()) else ", "
    signature = signature.replace("PARAMETERS", separator.join([*receiver, *names]))
    lines = [line for line in (inside, noise, call) if line]
    body = "\n".join(lines) + "\nreturn loss"
    arguments = one(draw, [", ".join(passed), ", ".join(passed) + ",", "\n    " + ",\n    ".join(passed) + ",\n", ""])
    if arguments == "" and "/" not in pieces["signature"]:
        keywords = [f"{name.split(':')[0]}={value}" for name, value in zip(names, passed, strict=True)]
        arguments = ", ".join(keywords if decorator != "@fixed\n" else passed)
    arguments = arguments or ", ".join(passed)
    function = f"{decorator}def compute_loss{signature}:\n{indent(body)}\n"
    entry = "main(Config())" if takes else "main()"
    guard = one(
        draw, [f'if __name__ == "__main__":\n    {entry}\n', f"{entry}\n", f'if __name__ == "__main__": {entry}\n']
    )
    main = f"def main({takes}):\n" + indent(
        train.replace("RUN", f"compute_loss({arguments})").replace("\n)", "\n    )")
    )
    if shape == "function":
        order = [function, main + "\n"]
        return "\n\n".join(order if draw(st.booleans()) else reversed(order)) + "\n\n" + guard
    with_config = shape == "method with config" and has_config
    if with_config:
        pieces["takes config"] = "yes"
    constructor = "def __init__(self, cfg: Config):\n    self.cfg = cfg\n\n" if with_config else ""
    made = "trainer = Trainer(Config())\n" if with_config else "trainer = Trainer()\n"
    holder = f"class Trainer:\n{indent(constructor + function)}\n"
    main = f"def main({takes}):\n" + indent(
        made + train.replace("RUN", f"trainer.compute_loss({arguments})").replace("\n)", "\n    )")
    )
    return f"{holder}\n\n{main}\n\n\n{guard}"


BYTES: dict[str, Callable[[str], bytes]] = {
    "LF": lambda text: text.encode(),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "mixed": lambda text: re.sub(r"\n([^\n]*)\n", "\r\n\\1\n", text).encode(),
    "tabs": lambda text: re.sub(r"(?m)^(?:    )+", lambda match: "\t" * (len(match[0]) // 4), text).encode(),
    "two spaces": lambda text: re.sub(r"(?m)^(?:    )+", lambda match: "  " * (len(match[0]) // 4), text).encode(),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "gbk": lambda text: f"# coding: gbk\n{text}".encode("gbk"),
    "form feeds": lambda text: text.replace("\n\n\n", "\n\n\f\n").replace("\ndef ", "\n\fdef ").encode(),
    "trailing blanks": lambda text: re.sub(r"(?m)(?<=[\w:)])$", "  ", text).encode(),
    "no final newline": lambda text: text.rstrip("\n").encode(),
    "odd separators": lambda text: text.replace("\n\n\n", "\n\n# \u2028\x1c\x85\n").encode(),
}


@st.composite
def inputs(draw: st.DrawFn) -> tuple[Script, bytes, str]:
    script = draw(scripts())
    kind = one(draw, ["LF", *BYTES])
    if kind in ("trailing blanks", "tabs", "two spaces") and "\\\n" in script.text:
        kind = "LF"  # a blank behind a backslash, or another indentation behind one, is another script
    return script, BYTES[kind](script.text), kind
