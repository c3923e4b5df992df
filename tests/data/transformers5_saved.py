"""One catalogue config of each model_type as Transformers 5 saves it again: other spellings, defaults written out.

    python transformers5_saved.py            # writes transformers5_saved.jsonl: {"name", "config"} per line
    python transformers5_saved.py --random   # only compares: every config of transformers_random.jsonl, saved, against itself

transformers 5.24.0. Nothing is computed: the config's class reads the file and writes it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING

import symroof
from symroof.architectures.config import catalogue

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity(50)
HERE = Path(__file__).parent


def saved(config: dict[str, Any]) -> dict[str, Any]:
    """The config as its class in Transformers writes it."""
    with tempfile.TemporaryDirectory() as folder:
        CONFIG_MAPPING[config["model_type"]].from_dict(config).save_pretrained(folder)
        return json.loads((Path(folder) / "config.json").read_text())


def chosen() -> Iterator[tuple[str, dict[str, Any]]]:
    """The first of each model_type (nested ones: of each text decoder) that has a class which reads it, without its quantization."""
    seen: set[tuple[str, str | None]] = set()
    for name, path in catalogue().items():
        config = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("quantization_config", "auto_map")}
        kind, inner = config.get("model_type"), config.get("text_config", {}).get("model_type")
        if kind in CONFIG_MAPPING and (kind, inner) not in seen:
            try:
                yield name, saved(config)
            except StrictDataclassError as error:
                print(f"{name}: {error}", file=sys.stderr)
            else:
                seen.add((kind, inner))


def compare() -> None:
    """Every random config, saved, gives the same architecture."""
    with tempfile.TemporaryDirectory() as folder:
        path, differ, count = Path(folder) / "config.json", 0, 0
        for line in (HERE / "transformers_random.jsonl").read_text().splitlines():
            config = json.loads(line)["config"] | {"model_type": json.loads(line)["model_type"]}
            if config["model_type"] not in CONFIG_MAPPING:
                continue
            count += 1
            models = []
            for content in (config, saved(config)):
                path.write_text(json.dumps(content))
                try:
                    models.append(symroof.load_model(path))
                except symroof.SymroofError as error:
                    models.append(error)
            parameters = [getattr(model, "parameters", str(model)) for model in models]
            if parameters[0] != parameters[1] or getattr(models[1], "unread", ("?",)) != ():
                differ += 1
                print(config["model_type"], *parameters, getattr(models[1], "unread", ""))
        print(f"{count} random configs, {differ} differ")


if __name__ == "__main__":
    if "--random" in sys.argv:
        compare()
    else:
        lines = (json.dumps({"name": name, "config": config}, sort_keys=True) for name, config in chosen())
        (HERE / "transformers5_saved.jsonl").write_text("".join(f"{line}\n" for line in lines))
