"""Ultralytics adapter."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def train_detector(start: Path, *, data_dir: Path, out_dir: Path, recipe: Mapping[str, Any]) -> Path:
    """Fine-tune ``start`` on a data set in Ultralytics layout and return the last weights."""
    import torch
    import yaml
    from ultralytics import YOLO
    from ultralytics.engine import trainer

    # Ultralytics refuses bf16 autocast without CUDA, PyTorch does not: on a CPU with AVX512-BF16
    # or AMX it halves the time of a step.
    trainer.autocast = lambda dtype, device="cpu": torch.autocast(
        device, dtype=torch.bfloat16, enabled=bool(dtype)
    )

    data = yaml.safe_load((data_dir / "data.yaml").read_text(encoding="utf-8"))
    data["path"] = str(data_dir.resolve())
    with tempfile.TemporaryDirectory() as folder:
        data_file = Path(folder) / "data.yaml"
        data_file.write_text(yaml.safe_dump(data), encoding="utf-8")
        model = YOLO(str(start))
        # Ultralytics leaves one core to its data loader; on two cores that halves the speed.
        model.add_callback("on_train_start", lambda _: torch.set_num_threads(os.cpu_count() or 1))
        model.train(
            data=str(data_file),
            project=str(out_dir.resolve()),
            name="run",
            exist_ok=True,
            device="cpu",
            workers=1,
            cache="ram",
            val=False,  # nothing is selected on the validation flights
            plots=False,
            **recipe,
        )
    return out_dir / "run" / "weights" / "last.pt"
