#!/usr/bin/env python3
"""Run public DARTS repositories with `bdp_ext.prune` in them: 3 epochs on 512 real images.

    tools/check_repositories.py FOLDER [FOLDER ...]

FOLDER holds a checkout of quark0/darts, yuhuixu1993/PC-DARTS, chenxin061/pdarts,
Sunshine-Ye/Beta-DARTS, D-X-Y/AutoDL-Projects, xiangning-chen/SmoothDARTS, automl/RobustDARTS,
automl/nasbench-1shot1, khanrc/pt.darts, xiangning-chen/DrNAS, ruocwang/darts-pt, lightaime/sgas,
xiaomi-automl/FairDARTS, antoyang/NAS-Benchmark, Meituan-AutoML/DARTS-, xiaomi-automl/NoisyDARTS,
iboing/ISTA-NAS, AnnaAraslanova/FBNet or JunrQ/NAS. It is not changed: a temporary copy is patched
for a current PyTorch and the CPU (repositories.py, repository_shim.py), gets the lines of
docs/drop-in.md and is run as its README says, with a small network.
"""

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path

from repositories import CIFAR, SMALL, Run, execute, two_lines, write_cifar

PT_DARTS = (
    "--name run --dataset CIFAR10 --epochs 3 --batch_size 64 --init_channels 2 --layers 3 "
    "--workers 0"
)
SMALL_201 = SMALL.replace(" --layers 3", "")
BETA_DARTS = [
    (r"N=5", "N=1"),
    (r" +# nasbench201\n(.*\n)+?\n( +writer\.add_scalars.*\n)+", ""),  # queries a large file
    (r"args\.save = '[^']*'\.format\([^)]*\)[^)]*\)", "args.save = 'run'"),
]
PT_LOADERS = r" *valid_loader = torch\.utils\.data\.DataLoader\((.*\n)+? +pin_memory=True\)"
PT_LINES = two_lines("config.epochs", "net_crit", "train_loader, valid_loader")
GET_LOADERS = r" *train_queue, valid_queue, .*get_train_val_loaders.*"
RUNS = {
    "sgas_env_install.sh": [
        Run("SGAS, loaders built anew", "cnn/train_search.py",
            "--data DATA --batch_size 64 --init_channels 2 --layers 2 --warmup_dec_epoch 2 "
            "--decision_freq 1",
            two_lines("epochs") + "\npruner = train_queue.pruner",
            edits=[(r"post_train = 5", "post_train = 1"), (r", num_workers=2", ""),
                   (r"( +)# post validation",
                    r"\1train_queue, valid_queue = pruner.adopt(train_queue, valid_queue)")],
            epochs=11),
    ],
    "cnn/architect.py": [
        Run("darts, first order", "cnn/train_search.py"),
        Run("darts, second order", "cnn/train_search.py", SMALL + " --unrolled"),
    ],
    "model_search_imagenet.py": [
        Run("PC-DARTS (alpha from epoch 15)", "train_search.py"),
        Run("PC-DARTS, alpha from epoch 1", "train_search.py",
            edits=[(r"epoch>=15", "epoch>=1")]),
    ],
    "pipeline2.jpg": [
        Run("P-DARTS, three stages, alpha from epoch 1", "train_search.py",
            "--tmp_data_dir DATA --save HERE/ --epochs 3 --batch_size 64 --init_channels 4 "
            "--layers 3 --add_layers 1 --add_layers 1 --workers 1",
            two_lines("(args.epochs,) * 3"), r" *criterion = criterion\.cuda\(\)",
            edits=[(r"\[10, 10, 10\]", "[1, 1, 1]")], epochs=9),
    ],
    "nasbench/api.py": [
        Run(f"Beta-DARTS, NAS-Bench-201{name}", "nasbench201/train_search.py",
            SMALL_201 + f" --perturb_alpha {kind}", edits=BETA_DARTS)
        for name, kind in (("", "random"), (", PGD on alpha", "pgd_linf"))
    ],
    "optimizers/nasp/architect.py": [
        Run("SmoothDARTS, random", "sota/cnn/train_search.py", SMALL + " --perturb_alpha random"),
        Run("SmoothDARTS, GDAS, copies of the queue", "optimizers/gdas/train_search.py",
            edits=[(r"if not 'debug' in args\.save:", "if False:")]),  # queries a large file
    ],
    "plots/plot_beta_vs_valid_loss.py": [
        Run("DARTS-", "src/search/train_search.py",
            SMALL + " --space s5 --auxiliary_skip --decay linear --save HERE",
            after=GET_LOADERS, folder="."),
    ],
    "verify_transfer.py": [
        Run("NoisyDARTS", "train_search.py", SMALL + " --add_noise_skip",
            edits=[(r"utils\.save_file\(.*", ""),  # large figures
                   (r"model = NetworkCIFAR", "return  # ")]),
    ],
    "ista_nas/search/inner_trainer.py": [
        Run(f"ISTA-NAS, {kind}", f"tools/{script}.py",
            "--data DATA --epochs 3 --batch_size 64 --init_channels 2 --layers 3",
            "import bdp_ext\n" + lines, r" *trainer = Trainer\(args\)",
            edits=[(rf"(from {package}) import Trainer",  # MOSEK is not free
                    r"\1 import Trainer, trainer as inside\n"
                    r"inside.LASSO.solve = lambda self, b: np.linalg.pinv(self.A) @ b")],
            epochs=epochs)
        for kind, script, package, lines, epochs in (
            ("two stages", "train_search", "ista_nas",
             "trainer.train_queue, trainer.valid_queue = bdp_ext.prune(trainer.train_queue, "
             "trainer.valid_queue, model=trainer.search_trainer.model, epochs=args.epochs)", 3),
            ("one stage, one level", "train_search_single", "ista_nas_single",
             "trainer.train_queue = bdp_ext.prune(trainer.train_queue, level='train', "
             "model=trainer.search_trainer.model, logits=0, epochs=2 * args.epochs)", 6),
        )
    ],
    "supernet_main_file.py": [
        Run("FBNet, a pass of thetas after each of the weights", "supernet_main_file.py",
            "--train_or_sample train",
            two_lines("5", queues="train_w_loader, train_thetas_loader"),
            r" *criterion = SupernetLoss\(\).*",
            edits=[(r"(from fbnet_building_blocks.*)",
                    r"\1\nCONFIG_SUPERNET['dataloading'].update("
                    r"batch_size=64, w_share_in_train=.5, path_to_save_data='data')\n"
                    r"CONFIG_SUPERNET['logging'].update(path_to_log_file='log')\n"
                    r"CONFIG_SUPERNET['train_settings'].update(cnt_epochs=5, "
                    r"train_thetas_from_the_epoch=1)"),
                   (r"( +)(model = nn\.DataParallel\(model, .*)",  # of 224 pixels
                    r"\1model.last_stages.avg_pool_k7 = nn.AdaptiveAvgPool2d(1)\n\1\2")],
            epochs=5),
    ],
    "fbnet-pytorch/train_cifar10.py": [
        Run("JunrQ/NAS, FBNet, both levels the same images", "fbnet-pytorch/train_cifar10.py",
            "--batch-size 64", two_lines("3", "model._criterion", "train_queue, val_queue"),
            r"model = FBNet\((.*\n)+? +speed_f=.*",
            edits=[(r"from data import.*",  # is Python 2
                    r"import model as of\nof.DataParallel = lambda net, _: net"),
                   (r"'/home/zhouchangqing/nas/'", "'data'"),
                   (r"'/home1/nas/fbnet-pytorch/'", "'run'"),
                   (r"total_epoch = 90", "total_epoch = 2"),
                   (r"start_w_epoch = 2", "start_w_epoch = 1")]),
    ],
    "src/search/train_search.py": [
        Run(f"RobustDARTS, {kind}", "src/search/train_search.py",
            SMALL + " --space s1 --drop_path_prob 0 --save HERE " + arguments,
            after=GET_LOADERS, folder=".")
        for kind, arguments in (
            ("second order", "--unrolled"),
            ("Hessian of every epoch", "--compute_hessian --report_freq_hessian 1 --window 1"),
        )
    ],
    "optimizers/bohb_one_shot/master.py": [
        Run(f"NAS-Bench-1Shot1, {kind}", f"optimizers/{kind}/train_search.py", folder=".",
            edits=[(r"logging\.info\('architecture.*", ""), *edits])
        for kind, edits in (
            ("darts", [(r"logging\.info\('STARTING EVALUATION'\)", "return")]),
            ("gdas", []),
            ("pc_darts", []),
        )
    ],
    "exps/NATS-algos/search-cell.py": [
        Run(f"AutoDL-Projects, {algorithm}", f"exps/NATS-algos/search-{searched}.py",
            "--dataset cifar10 --data_path DATA --algo " + algorithm + " --use_api 0 "
            "--rand_seed 1 --overwite_epochs 3 " + arguments,
            "import bdp_ext\nsearch_loader = bdp_ext.prune(search_loader, loss=criterion, "
            "epochs=config.epochs)",
            r" *network, criterion = search_model\.cuda\(\), criterion\.cuda\(\).*",
            folder=".", edits=edits)
        for searched, arguments, edits, algorithms in (
            ("cell", "--channel 4 --num_cells 1 --eval_candidate_num 2",
             [(r"controller_train_steps = 50", "controller_train_steps = 1")],
             ("darts-v1", "darts-v2", "gdas", "setn", "enas", "random")),
            ("size", "--warmup_ratio 0", [], ("mask_gumbel", "mask_rl")),
        )
        for algorithm in algorithms
    ],
    "models/search_cnn.py": [Run("pt.darts", "search.py", PT_DARTS, PT_LINES, PT_LOADERS)],
    "net2wider.py": [
        Run("DrNAS, NAS-Bench-201", "201-space/train_search.py", SMALL_201,
            edits=[(r"N=5", "N=1")]),
        Run("DrNAS, DARTS space, two stages", "DARTS-space/train_search.py",
            "--data DATA --batch_size 64 --init_channels 12 --layers 2",
            two_lines("sum(train_epochs)"), r" *train_epochs = .*",
            edits=[(r"\[25, 25\]", "[3, 3]"), (r"epoch >= 10", "epoch >= 0")], epochs=6),
    ],
    "sota/cnn/train_search.py": [
        Run("darts-pt, NAS-Bench-201", "nasbench201/train_search.py",
            SMALL_201 + " --gpu 0 --method darts --save darts-201",
            edits=[(r"N=5", "N=1")]),
        Run("darts-pt, DARTS space, random perturbation", "sota/cnn/train_search.py",
            SMALL + " --gpu 0 --method sdarts --perturb_alpha random --save run"),
    ],
    "CNAS/run/train_search.py": [
        Run("NAS-Benchmark, DARTS", "DARTS/search.py", "--path HERE " + PT_DARTS,
            PT_LINES, PT_LOADERS,
            edits=[(r"random\.shuffle\(indices\)", ""),  # by no seed
                   (r"while count > 2:", "while False:")]),  # writes into a leaf, after the search
        Run("NAS-Benchmark, CNAS", "CNAS/run/train_search.py",
            "--data DATA --epochs 3 --batch-size 64 --init-channels 4 --layers 2",
            two_lines("self.args.epochs", "self.criterion",
                      "self.train_queue, self.valid_queue"),
            r" *self\.architect = .*",
            edits=[(r"'/cache/CNAS'", "'..'"), (r"import darts\.datasets.*", ""),
                   (r"self\.current_gpu, _ = .*", "self.current_gpu = 0")]),
    ],
    "fairdarts/train_search.py": [
        Run("FairDARTS", "fairdarts/train_search.py", lines=two_lines(criterion="criterion_train"),
            edits=[(r", num_workers=2", ""), (r"utils\.save_file\(.*", "")]),  # large figures
    ],
}  # fmt: skip


def check(source: Path, run: Run, data: Path, images: int, timeout: int) -> bool:
    """Run one; print what came of it."""
    done = execute(source, run, data, images, timeout)
    line = re.search(r"^BDP_REPORT (.*)$", done.stdout, re.M)
    if done.returncode or line is None:
        print(f"FAILED  {run.name}\n{(done.stdout + done.stderr)[-3000:]}")
        return False
    report = json.loads(line.group(1))
    requested = [row["num_requested"] for row in report["prunings"]]
    train = [row for row in report["prunings"] if row["level"] == "train"]
    print(
        f"{run.name}: {report['epochs']} epochs, {report['unmatched']} forward passes of no batch, "
        f"samples left {report['left']}, asked {requested}, {report['scores_of_no_call']} of "
        f"{report['scores']} scores in the windows that no call of the criterion gave"
    )
    return (
        report["epochs"] == run.epochs
        and report["scores"] > 0
        and any(row["after"] < row["before"] for row in train)
        and report["unmatched"] == report["scores_of_no_call"] == 0
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--timeout", type=int, default=900, help="seconds a run")
    parser.add_argument(
        "--data",
        type=Path,
        default=CIFAR,
        help="cifar10.npz: JPEG bytes, offsets and labels",
    )
    arguments = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        write_cifar(arguments.data, Path(temporary), arguments.images)
        for folder in arguments.folders:
            kinds = [kind for kind in RUNS if (folder / kind).exists()]
            if not kinds:
                raise SystemExit(f"{folder} is none of the repositories that this script knows.")
            for run in RUNS[kinds[0]]:
                good &= check(folder, run, Path(temporary), arguments.images, arguments.timeout)
    sys.exit(not good)


if __name__ == "__main__":
    main()
