"""AutoDL-Projects: one loader yields both levels; the data set draws the second half at random, in
worker processes. The model returns (features, logits)."""

import random

import torch
from common import BATCH, IMAGES, Images, Network, Oracle, members

import bdp_ext

EPOCHS = 5


class SearchDataset(torch.utils.data.Dataset):
    def __init__(self, data, train_split, valid_split):
        self.data = data
        self.train_split = train_split.copy()
        self.valid_split = valid_split.copy()
        self.length = len(self.train_split)

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        assert 0 <= index < self.length
        train_image, train_label = self.data[self.train_split[index]]
        valid_image, valid_label = self.data[random.choice(self.valid_split)]
        return train_image, train_label, valid_image, valid_label


class Tuples(Network):
    def forward(self, images):
        return images.mean((2, 3)), super().forward(images)


def main(workers):
    torch.manual_seed(0)
    random.seed(0)
    criterion = torch.nn.CrossEntropyLoss()
    model = Tuples()
    optimizer = torch.optim.SGD(model.weights(), 0.1, momentum=0.9)
    alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
    half = IMAGES // 2
    data = SearchDataset(Images(), list(range(half)), list(range(half, IMAGES)))
    loader = torch.utils.data.DataLoader(
        data,
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    search_loader = bdp_ext.prune(loader, loss=criterion, epochs=EPOCHS, interval=2, balance="none")
    assert search_loader.dataset is data
    oracle = Oracle(search_loader.pruner, members(), (2, 4), 2)
    for _ in range(EPOCHS):
        steps = 0
        for base_inputs, base_targets, arch_inputs, arch_targets in search_loader:
            steps += 1
            optimizer.zero_grad()
            _, logits = model(base_inputs)
            criterion(logits, base_targets).backward()
            oracle.forward("train", base_inputs, logits, base_targets)
            optimizer.step()
            alpha_optimizer.zero_grad()
            _, logits = model(arch_inputs)
            criterion(logits, arch_targets).backward()
            oracle.forward("valid", arch_inputs, logits, arch_targets)
            alpha_optimizer.step()
        assert steps == -(-len(oracle.live["train"]) // BATCH)
        oracle.end_epoch()
    oracle.finish(search_loader)


if __name__ == "__main__":
    main(workers=0)
    main(workers=2)
