"""Search spaces: supernets whose edges are mixed ops, and the cells drawn from their alpha."""

from bdp_ext.runs.plugins import find
from bdp_ext.spaces.darts import DartsSpace
from bdp_ext.spaces.mixed_op import CandidateWeights
from bdp_ext.spaces.mobilenet import MobileNetSpace
from bdp_ext.spaces.nas_bench_201 import NasBench201Space
from bdp_ext.spaces.space import IMAGENET_FROM, Space, Supernet

SPACES: dict[str, Space] = {
    space.name: space for space in (NasBench201Space(), DartsSpace(), MobileNetSpace())
}


def find_space(name: str) -> Space:
    """A space by its name, or `package.module:Name`: a class with the methods of `Space`, or an
    instance.

    Raises:
        UserError: there is none.
    """
    return find("space", name, SPACES, ("name", "defaults", "for_images", "supernet", "derive"))


__all__ = [
    "IMAGENET_FROM",
    "SPACES",
    "CandidateWeights",
    "DartsSpace",
    "MobileNetSpace",
    "NasBench201Space",
    "Space",
    "Supernet",
    "find_space",
]
