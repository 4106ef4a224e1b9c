"""Pruned images, read back from the data."""

import shutil
from unittest.mock import Mock

import numpy as np
import torch
from PIL import Image

from bdp_ext.data import load
from bdp_ext.report import maps, read_runs, style, write_report
from bdp_ext.report.output import rendered
from bdp_ext.report.thumbnails import pruned_images
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.run import run

from .conftest import SMALL
from .parsed import Parsed


def test_pruned_images_are_read_back_from_the_data(folders):
    (found,) = read_runs([folders["seed0"]])
    data = load("digits", limit=200)
    for pruned in found.pruning_records.values():
        first, last = pruned_images(found.settings, pruned)
        head, tail = pruned.samples[pruned.at(0)][:16], pruned.samples[pruned.at(-1)][-16:]
        assert torch.equal(first.images, data.images[head])
        assert torch.equal(last.images, data.images[tail])
        assert last.names == [str(label) for label in data.labels[tail].tolist()]
        assert first.title.startswith(f"first, after epoch {pruned.epochs[0]}: VoE ")


def test_large_images_of_a_folder_become_small(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (2, 30, 96, 128, 3), np.uint8)
    for label, images in zip(("a$b$", "b"), pixels, strict=True):
        (tmp_path / "data/train" / label).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / f"data/train/{label}/{number:02}.png")
    settings = {**SMALL, "data": str(tmp_path / "data"), "image_size": 72, "limit_train": 50}
    config = SearchConfig.of(**{**settings, "epochs": 3})
    run(config, tmp_path / "run", resume=False, observer=Mock())
    (found,) = read_runs([tmp_path / "run"])
    rows = pruned_images(found.settings, found.pruning_records["valid"])
    assert all(row.images.shape[1:] == (3, 64, 64) for row in rows)
    with style.applied():
        assert b">a$b$<" in rendered(maps.images(rows), "svg")  # no formula
    write_report([tmp_path / "run"], tmp_path / "there.html")
    assert "1-run-images-valid" in Parsed(tmp_path / "there.html").figures
    shutil.rmtree(tmp_path / "data")
    write_report([tmp_path / "run"], tmp_path / "gone.html")
    parsed = Parsed(tmp_path / "gone.html")
    assert "1-run-images-valid" not in parsed.figures
    assert "1-run-voe-valid" in parsed.figures
    note = next(text for text in parsed.texts if text.startswith("The pruned images cannot"))
    assert "data does not exist" in note
