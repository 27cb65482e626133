"""Every method with every class of codec every aggregator, with and without secure aggregation: it runs two rounds, or `check` refuses it and names both keys."""
import concurrent.futures
import itertools
import json
import subprocess
import unittest

from fedctl import FEDCTL, ROOT, TOY, Case, rounds

CODECS = {
    "none": "",
    "float16": "codec: {up: [{kind: float16}], down: [{kind: float16}]}\n",
    "unbiased": "codec: {up: [{kind: qsgd}]}\n",
    "linear": "codec: {up: [{kind: randk, ratio: 0.5}]}\n",
    "sparse": "codec: {up: [{kind: topk, ratio: 0.2}]}\n",
    "sparse, ef14": "codec: {up: [{kind: topk, ratio: 0.2}], error_feedback: ef14}\n",
    "signs, ef21": "codec: {up: [{kind: sign}], error_feedback: ef21}\n",
    "both ways, ef21": "codec: {up: [{kind: topk, ratio: 0.2}], error_feedback: ef21, down: [{kind: topk, ratio: 0.2}], error_feedback_down: ef21}\n",
}
PRIVACY = {"none": "", "secagg": "privacy: {secure_aggregation: {kind: secagg, examples_max: 1}}\n"}
# What a method cannot do without, beside the toy problem.
OPTIONS = {
    "meerkat": ", ratio: 0.5, mask: random",
    "fedbuff": ", buffer: 3",
}
# Which method goes with which codecs and aggregators; anything goes with the others.
NO_CODEC = {"decomfl", "fedkseed", "ferret", "just_one_byte", "meerkat", "fedasync"}
ONLY = {"scaffold": {"none"}, "scallion": {"none", "unbiased", "linear"}, "scafcom": {"none", "float16", "unbiased", "linear", "sparse"},
        "econtrol": {"none", "float16", "unbiased", "linear", "sparse"},
        "dadao": {"none", "float16", "unbiased", "linear", "sparse"}, "dpsgd": {"none", "float16", "unbiased", "linear", "sparse"}}
SUMS = {"fedavg", "fedprox", "co2"}
MEAN_ONLY = {"just_one_byte", "fedasync"}
# The toy cannot be cut, and has no prompt.
PARTS = {"sfprompt"}


def registry(what):
    out = subprocess.run([FEDCTL, "list", what, "--format", "json"], capture_output=True, text=True, check=True).stdout
    return [line["name"] for line in json.loads(out)[what]]


class Table(Case):
    def one(self, method, codec, aggregator, privacy):
        """What came of it: (status of check, its message, status of two rounds, their number)."""
        name = f"{method}-{list(CODECS).index(codec)}-{aggregator}-{privacy}"
        config = self.folder / f"{name}.yaml"
        config.write_text(TOY.replace("rounds: 5", "rounds: 2").replace("rows: 24, cols: 32", "rows: 4, cols: 4, rank: 2").replace("lr: 0.05", "lr: 0.01")
                          + CODECS[codec] + PRIVACY[privacy] + f"aggregate: {{kind: {aggregator}}}\nmethod: {{kind: {method}{OPTIONS.get(method, '')}}}\n")
        check = subprocess.run([FEDCTL, "check", "--config", config], capture_output=True, text=True, cwd=ROOT)
        if check.returncode != 0:
            return check.returncode, check.stderr, None, 0
        run = subprocess.run([FEDCTL, "simulate", "--config", config, "--run-dir", self.folder / name, "--quiet", "--threads", "1"],
                             capture_output=True, text=True, cwd=ROOT, timeout=60)
        return 0, run.stderr, run.returncode, len(rounds(self.folder / name)) - 1

    def test_runs_or_is_refused(self):
        methods, aggregators = registry("methods"), registry("aggregators")
        self.assertGreater(len(methods), 14)
        table = list(itertools.product(methods, CODECS, aggregators, PRIVACY))
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for (method, codec, aggregator, privacy), (check, message, status, done) in zip(table, pool.map(lambda cell: self.one(*cell), table)):
                with self.subTest(method=method, codec=codec, aggregator=aggregator, privacy=privacy):
                    codecs = set() if method in PARTS else {"none"} if method in NO_CODEC else ONLY.get(method, set(CODECS))
                    hidden = privacy == "none" or (method in SUMS and aggregator == "mean" and codec == "none")
                    if hidden and codec in codecs and (aggregator == "mean" or method not in MEAN_ONLY):
                        self.assertEqual((check, status, done), (0, 0, 2), message)
                    else:
                        self.assertEqual(check, 2, message)
                        self.assertIn(f"method.kind is {method}", message)
                        self.assertRegex(message, r"(adapter\.kind|codec\.(up|down|error_feedback)|aggregate\.kind|privacy\.secure_aggregation\.kind) is ")


if __name__ == "__main__":
    unittest.main()
