"""The fake GPU itself: it refuses what a GPU refuses, and counts what one would do."""

import copy
import io

import pytest
import torch
from fake_gpu import GpuTensor, fake_gpu
from torch import nn


@pytest.fixture
def log():
    with fake_gpu() as log:
        yield log


def test_numbers_are_the_cpus(log):
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    twin = copy.deepcopy(net).to("cuda")
    assert all(p.device == torch.device("cuda:0") for p in twin.parameters())
    for network, images in ((net, x), (twin, x.cuda())):
        sgd = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
        for _ in range(2):
            sgd.zero_grad()
            network(images).square().sum().backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            sgd.step()
    for ours, theirs in zip(twin.parameters(), net.parameters(), strict=True):
        assert isinstance(ours, GpuTensor)
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-4, atol=1e-6)


def test_a_module_keeps_its_parameters_when_it_moves(log):
    net = nn.Linear(2, 2)
    weight = net.weight
    net.to("cuda").to(torch.float64)
    assert net.weight is weight
    assert weight.is_cuda
    assert weight.dtype == torch.float64


@pytest.mark.parametrize(
    "mix",
    [
        lambda here, there: here + there,
        lambda here, there: there + here,
        lambda here, there: torch.cat([here, there]),
        lambda here, there: there.add_(here.sum()),
        lambda here, there: there[here.long()],
        lambda here, there: torch.where(here > 0, there, there),
        lambda here, there: torch.rand(2, device="cuda", generator=torch.Generator()),
    ],
)
def test_refuses_a_mix_of_devices(log, mix):
    there = torch.ones(3)
    with pytest.raises(RuntimeError, match=r"mixes devices: .* on c|generator of the CPU"):
        mix(there.cuda(), there)


def test_has_no_numpy_of_it(log):
    with pytest.raises(TypeError, match="cuda"):
        torch.ones(2, device="cuda").numpy()


def test_counts_launches_and_bytes(log):
    x = torch.ones(8, 4, device="cuda")
    log.clear()
    x.view(4, 8)[:, 1].t()
    torch.empty(3, device="cuda")
    assert log.launches == []
    _ = x + x[:1]
    assert [(launch.op, launch.kernels) for launch in log.launches] == [("add", 1)]
    assert log.bytes == 4 * (32 + 4 + 32)
    log.clear()
    x.add_(x[:1].expand(8, 4))
    assert log.bytes == 4 * (32 + 4 + 32)  # the expanded one is as small as it was
    log.clear()
    x.zero_()
    assert log.bytes == 4 * 32
    assert log.launches[0].caller == "outside of bdp_ext"


def test_lists_of_tensors_are_few_launches(log):
    tensors = [torch.ones(2, 3, device="cuda") for _ in range(800)]
    log.clear()
    torch._foreach_mul_(tensors, 2.0)
    assert log.kernels == 2
    log.clear()
    torch._foreach_add_(tensors, [x.t().contiguous().t() for x in tensors])
    assert log.kernels == 800 + 800  # copies, and one by one: the strides differ
    log.clear()
    torch._foreach_norm(tensors[:10])
    assert log.kernels == 2


def test_counts_copies_and_waits(log):
    x = torch.ones(3)
    there = x.to("cuda", non_blocking=True)
    assert [(copy.to, copy.bytes, copy.blocking) for copy in log.copies] == [
        ("the device", 12, False)
    ]
    assert log.waits == []
    there.cpu()
    float(there[0])
    there.tolist()
    there[torch.tensor([0])]
    there[there > 0]
    torch.cuda.synchronize()
    reasons = [wait.reason for wait in log.waits]
    assert reasons == [
        "copy to the host",
        "aten::_local_scalar_dense",
        "copy to the host",
        "copy to the device",
        "a mask as index",
        "synchronize",
    ]
    log.clear()
    torch.zeros(3).copy_(there, non_blocking=True)
    there.copy_(x)
    assert [copy.blocking for copy in log.copies] == [False, True]


def test_a_captured_function_may_not_wait(log):
    x = torch.ones(3, device="cuda")
    replay, result = log.capture(lambda: x * 2)
    assert result.cpu().isnan().all()
    x.fill_(3.0)
    replay()
    assert result.tolist() == [6.0] * 3
    with pytest.raises(RuntimeError, match="while a CUDA graph is captured"):
        log.capture(lambda: x.sum().item())


def test_loads_what_it_saves_as_the_cpus(log):
    file = io.BytesIO()
    torch.save({"x": torch.arange(3, device="cuda")}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)["x"]
    assert loaded.device.type == "cpu"
    assert loaded.tolist() == [0, 1, 2]


def test_leaves_torch_as_it_was():
    before = torch.cuda.is_available()
    with fake_gpu():
        assert torch.cuda.is_available()
    assert torch.cuda.is_available() == before
    x = torch.ones(2, requires_grad=True)
    x.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]
