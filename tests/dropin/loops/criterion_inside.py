"""The criterion is a part of the model, whose forward pass returns the loss; the loop breaks off
after a fixed number of steps, and the batches are dictionaries from worker processes that live
on."""

import torch
from common import BATCH, IMAGES, Images, Network, Oracle, members

import bdp_ext

EPOCHS, STEPS = 7, 3
noted = []


class Whole(Network):
    def forward(self, batch):
        logits = super().forward(batch["image"])
        noted.append(logits)
        return self._criterion(input=logits, target=batch["label"])


def collate(items):
    images, labels = zip(*items, strict=True)
    return {"size": len(items), "label": torch.tensor(labels), "image": torch.stack(images)}


def main():
    torch.manual_seed(0)
    model = Whole(torch.nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(model.weights(), 0.1, momentum=0.9)
    alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
    data, half = Images(), IMAGES // 2
    options = {"num_workers": 2, "persistent_workers": True, "collate_fn": collate}
    train_queue, valid_queue = (
        torch.utils.data.DataLoader(
            torch.utils.data.Subset(data, part), batch_size=BATCH, shuffle=True, **options
        )
        for part in (range(half), range(half, IMAGES))
    )
    train_queue, valid_queue = bdp_ext.prune(
        train_queue, valid_queue, model._criterion, epochs=EPOCHS, interval=2, balance="none"
    )

    class Subsets(Oracle):
        def forward(self, level, images, logits, target):
            shift = half / 1024 if level == "valid" else 0
            images = images.clone()
            images[:, 0, 0, 0] -= shift
            super().forward(level, images, logits, target)

    numbered = {level: range(half) for level in members()}
    oracle = Subsets(train_queue.pruner, numbered, (2, 4, 6), 2)
    for _ in range(EPOCHS):
        valid_iter = iter(valid_queue)
        for step, batch in enumerate(train_queue):
            search = next(valid_iter)
            for level, part, optim in (
                ("valid", search, alpha_optimizer),
                ("train", batch, optimizer),
            ):
                optim.zero_grad()
                model(part).backward()
                optim.step()
                oracle.forward(level, part["image"], noted[-1], part["label"])
            if step + 1 == min(STEPS, len(train_queue), len(valid_queue)):
                break
        del valid_iter
        oracle.end_epoch()
    oracle.finish(train_queue)


if __name__ == "__main__":
    main()
