"""Published cells of the DARTS space, by the names that public DARTS code gives them."""

from bdp_ext.spaces.genotype import Genotype

PUBLISHED: dict[str, Genotype] = {
    # DARTS (arXiv 1806.09055), first and second order, searched on CIFAR-10.
    "DARTS_V1": Genotype(
        normal=[
            *[("sep_conv_3x3", 1), ("sep_conv_3x3", 0)],
            *[("skip_connect", 0), ("sep_conv_3x3", 1)],
            *[("skip_connect", 0), ("sep_conv_3x3", 1)],
            *[("sep_conv_3x3", 0), ("skip_connect", 2)],
        ],
        reduce=[
            *[("max_pool_3x3", 0), ("max_pool_3x3", 1)],
            *[("skip_connect", 2), ("max_pool_3x3", 0)],
            *[("max_pool_3x3", 0), ("skip_connect", 2)],
            *[("skip_connect", 2), ("avg_pool_3x3", 0)],
        ],
    ),
    "DARTS_V2": Genotype(
        normal=[
            *[("sep_conv_3x3", 0), ("sep_conv_3x3", 1)],
            *[("sep_conv_3x3", 0), ("sep_conv_3x3", 1)],
            *[("sep_conv_3x3", 1), ("skip_connect", 0)],
            *[("skip_connect", 0), ("dil_conv_3x3", 2)],
        ],
        reduce=[
            *[("max_pool_3x3", 0), ("max_pool_3x3", 1)],
            *[("skip_connect", 2), ("max_pool_3x3", 1)],
            *[("max_pool_3x3", 0), ("skip_connect", 2)],
            *[("skip_connect", 2), ("max_pool_3x3", 1)],
        ],
    ),
    # P-DARTS (arXiv 1904.12760), searched on CIFAR-10.
    "PDARTS": Genotype(
        normal=[
            *[("skip_connect", 0), ("dil_conv_3x3", 1)],
            *[("skip_connect", 0), ("sep_conv_3x3", 1)],
            *[("sep_conv_3x3", 1), ("sep_conv_3x3", 3)],
            *[("sep_conv_3x3", 0), ("dil_conv_5x5", 4)],
        ],
        reduce=[
            *[("avg_pool_3x3", 0), ("sep_conv_5x5", 1)],
            *[("sep_conv_3x3", 0), ("dil_conv_5x5", 2)],
            *[("max_pool_3x3", 0), ("dil_conv_3x3", 1)],
            *[("dil_conv_3x3", 1), ("dil_conv_5x5", 3)],
        ],
    ),
    # PC-DARTS (arXiv 1907.05737), searched on CIFAR-10 and on ImageNet.
    "PC_DARTS_cifar": Genotype(
        normal=[
            *[("sep_conv_3x3", 1), ("skip_connect", 0)],
            *[("sep_conv_3x3", 0), ("dil_conv_3x3", 1)],
            *[("sep_conv_5x5", 0), ("sep_conv_3x3", 1)],
            *[("avg_pool_3x3", 0), ("dil_conv_3x3", 1)],
        ],
        reduce=[
            *[("sep_conv_5x5", 1), ("max_pool_3x3", 0)],
            *[("sep_conv_5x5", 1), ("sep_conv_5x5", 2)],
            *[("sep_conv_3x3", 0), ("sep_conv_3x3", 3)],
            *[("sep_conv_3x3", 1), ("sep_conv_3x3", 2)],
        ],
    ),
    "PC_DARTS_image": Genotype(
        normal=[
            *[("skip_connect", 1), ("sep_conv_3x3", 0)],
            *[("sep_conv_3x3", 0), ("skip_connect", 1)],
            *[("sep_conv_3x3", 1), ("sep_conv_3x3", 3)],
            *[("sep_conv_3x3", 1), ("dil_conv_5x5", 4)],
        ],
        reduce=[
            *[("sep_conv_3x3", 0), ("skip_connect", 1)],
            *[("dil_conv_5x5", 2), ("max_pool_3x3", 1)],
            *[("sep_conv_3x3", 2), ("sep_conv_3x3", 1)],
            *[("sep_conv_5x5", 0), ("sep_conv_3x3", 3)],
        ],
    ),
}
