"""Search spaces: supernets whose edges are mixed ops, and the cells drawn from their alpha."""

from bdp_ext.spaces.darts import Darts
from bdp_ext.spaces.mobilenet import MobileNet
from bdp_ext.spaces.nas_bench_201 import NasBench201
from bdp_ext.spaces.space import Space, Supernet

SPACES: dict[str, Space] = {space.name: space for space in (NasBench201(), Darts(), MobileNet())}

__all__ = ["SPACES", "Darts", "MobileNet", "NasBench201", "Space", "Supernet"]
