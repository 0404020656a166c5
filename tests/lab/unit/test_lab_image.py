"""The images that a lab was started with, as it remembers them."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from tests.lab.errors import LabError
from tests.lab.image import Images

IMAGES = Images(**{each.name: Path("/cache", each.name) for each in fields(Images)})


def test_images_survive_their_file() -> None:
    assert Images.from_json(IMAGES.to_json()) == IMAGES


def test_a_lab_of_an_earlier_version_is_to_be_removed() -> None:
    earlier = json.loads(IMAGES.to_json())
    del earlier["registry"]
    with pytest.raises(LabError, match="lab down"):
        Images.from_json(json.dumps(earlier))
