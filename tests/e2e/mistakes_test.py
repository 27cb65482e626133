"""Mistakes people make: the right exit status, the place, the fault and a hint, each in under two seconds."""
import os
import unittest

from fedctl import GLYPHS, TOY, Case, wait_until


class Mistakes(Case):
    def expect(self, arguments, status, *texts, env=None):
        # Processor time of the child: what the user waits for on a machine that does nothing else.
        before = os.times()
        got, out, err = self.run_fedctl(*arguments, env=env)
        after = os.times()
        took = after.children_user + after.children_system - before.children_user - before.children_system
        self.assertEqual(got, status, f"{arguments}: {out}{err}")
        for text in texts:
            self.assertIn(text, err)
        self.assertTrue(err.startswith("fedctl: error: "), err)
        self.assertLess(took, 2)

    def check(self, text, status, *texts):
        config = self.write("exp.yaml", text)
        self.expect(["check", "--config", config], status, *texts)
        self.expect(["simulate", "--config", config, "--run-dir", self.folder / "run", "--fresh"], status, *texts)

    def test_unknown_key(self):
        self.check(TOY.replace("rounds:", "round:"), 2, "exp.yaml:4:", "unknown key round", "did you mean rounds?")

    def test_unknown_nested_key(self):
        self.check(TOY.replace("batch_size", "batchsize"), 2, "train.batchsize", "did you mean batch_size?")

    def test_wrong_type(self):
        self.check(TOY.replace("rounds: 5", "rounds: many"), 2, "exp.yaml:4:9", "rounds is many", "must be an integer")

    def test_fraction_for_integer(self):
        self.check(TOY.replace("rounds: 5", "rounds: 1.5"), 2, "rounds is 1.5", "must be an integer")

    def test_out_of_range(self):
        self.check(TOY.replace("quorum: 1.0", "quorum: 1.7"), 2, "clients.quorum is 1.7", "(0, 1]")

    def test_unknown_kind(self):
        self.check(TOY + "method: {kind: fedavgg}\n", 2, "method.kind", "did you mean fedavg?")

    def test_options_of_another_kind(self):
        self.check(TOY + "method: {kind: fedavg, mu: 0.1}\n", 2, "unknown key method.mu")

    def test_key_twice(self):
        self.check(TOY + "rounds: 7\n", 2, "rounds", "twice")

    def test_not_yaml(self):
        self.check(TOY + "train: [\n", 2, "exp.yaml:")

    def test_name_missing(self):
        self.check(TOY.replace("name: toy\n", ""), 2, "name is missing")

    def test_name_unfit_for_a_directory(self):
        self.check(TOY.replace("name: toy", "name: ../toy"), 2, "exp.yaml:2:7", "a-z, 0-9 and -")

    def test_cohort_larger_than_the_crowd(self):
        self.check(TOY.replace("count: 6", "count: 6, per_round: 9"), 2, "clients.per_round is 9", "clients.count is 6")

    def test_codecs_that_do_not_compose(self):
        self.check(TOY + "codec: {up: [{kind: quantize}, {kind: topk}]}\n", 2, "codec.up[0]", "codec.up[1]")

    def test_sparse_downlink(self):
        self.check(TOY + "codec: {down: [{kind: topk}]}\n", 2, "codec.down[0]", "codec.error_feedback_down: ef21")

    def test_feedback_without_codec(self):
        self.check(TOY + "codec: {error_feedback: ef14}\n", 2, "codec.error_feedback is ef14")

    def test_what_a_method_asks_of_other_keys(self):
        momentum = TOY.replace("momentum: 0", "momentum: 0.9")
        self.check(momentum + "method: {kind: scaffold}\n", 2, "train.optimizer is not plain SGD, but method.kind is scaffold", "momentum: 0")
        self.check(TOY.replace("steps: 5", "steps: 5, clip: 1") + "method: {kind: scafcom}\n", 2, "train.optimizer is not plain SGD")
        topk = "codec: {up: [{kind: topk, ratio: 0.1}]%s}\n"
        self.check(TOY + topk % "" + "method: {kind: scaffold}\n", 2, "codec.up is not empty, but method.kind is scaffold", "scallion takes an unbiased codec")
        self.check(TOY + topk % "" + "method: {kind: scallion}\n", 2, "codec.up is not right on average, but method.kind is scallion", "eden")
        self.check(TOY + topk % ", error_feedback: ef14" + "method: {kind: scafcom}\n", 2, "codec.error_feedback is ef14, but method.kind is scafcom")

    def test_what_methods_without_gradients_ask(self):
        self.check(TOY.replace("momentum: 0", "momentum: 0.9") + "method: {kind: fedkseed}\n", 2, "train.optimizer is not plain SGD, but method.kind is fedkseed")
        self.check(TOY.replace("steps: 5", "epochs: 1") + "method: {kind: decomfl}\n", 2, "train.steps is 0, but method.kind is decomfl")
        self.check(TOY.replace("steps: 5", "steps: 5, accumulate: 2") + "method: {kind: fedkseed}\n", 2, "train.accumulate is not 1")
        self.check(TOY.replace("steps: 5", "steps: 5, schedule: {kind: cosine}") + "method: {kind: decomfl}\n", 2, "train.schedule is cosine")
        self.check(TOY + "method: {kind: fedkseed, pro: true, upload: sums}\n", 2, "method.pro is true, but method.upload is sums")
        self.check(TOY + "method: {kind: meerkat}\n", 2, "method.mask is gradient, but method.public names no data", "mask: magnitude")

    def test_secure_aggregation_with_what_it_cannot_hide(self):
        secure = "privacy: {secure_aggregation: {kind: secagg%s}}\n"
        key = "privacy.secure_aggregation.kind is secagg"
        self.check(TOY + secure % "" + "method: {kind: scaffold}\n", 2, key + ", but method.kind is scaffold")
        self.check(TOY + secure % "" + "codec: {up: [{kind: topk}]}\n", 2, key + " and codec.up is not empty")
        self.check(TOY.replace("holdout: 0", "holdout: 0.1") + secure % "" + "evaluate: {on: clients}\n", 2, key + " and evaluate.on is clients")
        self.check(TOY + secure % "" + "server: {max_update_norm: 3}\n", 2, key + " and server.max_update_norm is set")
        self.check(TOY.replace("count: 6", "count: 6, per_round: 2") + secure % "", 2, key + " and clients.per_round is 2")
        self.check(TOY + secure % ", levels: 1000000000", 2, key + " and levels times the cohort")

    def test_clients_that_train_on_between_rounds(self):
        self.check(TOY.replace("count: 6", "count: 6, per_round: 3") + "method: {kind: co2}\n", 2, "clients.per_round is 3, but method.kind is co2")

    def test_adapter_that_does_not_fit(self):
        self.check(TOY.replace("adapter: {kind: full}", "adapter: {kind: lora}"), 2, "adapter.kind is lora", "model.kind is quadratic")

    def test_target_that_the_model_lacks(self):
        self.check(GLYPHS.replace("[query, value]", "[query, gate]"), 2, "adapter.targets names \"gate\"", "query, key, value")

    def test_model_file_missing(self):
        self.check(GLYPHS.replace("{kind: vit, patch: 7, width: 32, depth: 2, heads: 2, mlp: 64}", "{kind: vit, path: nowhere}"), 5,
                   "nowhere", "no such file or folder")

    def test_data_file_missing(self):
        self.check(TOY.replace("kind: quadratic_targets, rows: 24, cols: 32, clients: 6, partition: {kind: by_field}",
                               "kind: idx, path: nowhere").replace("kind: quadratic}", "kind: mlp}"), 5,
                   "nowhere")

    def test_config_missing(self):
        self.expect(["server", "--config", "nowhere.yaml"], 2, "nowhere.yaml: no such file", "hint:")
        self.expect(["server"], 2, "--config FILE is missing")

    def test_unknown_command_and_option(self):
        self.expect(["serve"], 2, "unknown command \"serve\"", "did you mean server?")
        self.expect(["simulate", "--confg", "x"], 2, "unknown option --confg", "did you mean --config?")

    def test_bad_override(self):
        config = self.write("exp.yaml", TOY)
        self.expect(["check", "--config", config, "--set", "train.optimizer.lr=-1"], 2, "--set train.optimizer.lr=-1",
                    "train.optimizer.lr is -1")
        self.expect(["check", "--config", config, "--set", "rounds"], 2, "expected key.path=value")

    def test_bad_environment_override(self):
        config = self.write("exp.yaml", TOY)
        self.expect(["check", "--config", config], 2, "server.idle_s is 0",
                    env={**os.environ, "FEDCTL_SERVER__IDLE_S": "0"})

    def test_too_many_threads(self):
        config = self.write("exp.yaml", TOY)
        self.expect(["simulate", "--config", config, "--threads", "4096", "--run-dir", self.folder / "r"], 2,
                    "--threads is 4096", "cores")

    def test_nobody_listens(self):
        self.expect(["client", "--id", "0", "--server", "127.0.0.1:9", "--retry-s", "0.3"], 3, "cannot connect to 127.0.0.1:9", "hint:")

    def test_client_without_id(self):
        self.expect(["client"], 2, "--id")
        self.expect(["client", "--ids", "7-3"], 2, "--ids")

    def test_plaintext_beyond_loopback(self):
        config = self.write("exp.yaml", TOY)
        self.expect(["server", "--config", config, "--listen", "0.0.0.0:0", "--run-dir", self.folder / "r"], 2, "loopback", "--insecure")
        self.expect(["client", "--id", "0", "--server", "192.0.2.1:7143"], 2, "loopback", "--insecure")

    def test_two_servers_on_a_port_and_in_a_directory(self):
        config = self.write("exp.yaml", TOY)
        server, port, directory = self.server(config)
        self.expect(["server", "--config", config, "--listen", f"127.0.0.1:{port}", "--run-dir", self.folder / "other"], 2,
                    f"cannot listen on 127.0.0.1:{port}")
        self.expect(["server", "--config", config, "--run-dir", directory, "--resume"], 6, "another fedctl is running here")
        server.terminate()
        self.finish(server, 143)

    def test_bare_names_are_in_the_current_folder(self):
        self.write("exp.yaml", TOY)
        server = self.start("server", "--config", "exp.yaml", "--listen", "127.0.0.1:0", "--run-dir", "run", "--port-file", "port", cwd=self.folder)
        wait_until(lambda: (self.folder / "port").exists() or server.poll() is not None, "the port")
        server.terminate()
        self.finish(server, 143)
        self.assertTrue((self.folder / "run" / "journal.jsonl").exists())

    def test_a_run_is_there_already(self):
        config = self.write("exp.yaml", TOY)
        run = ["simulate", "--config", config, "--run-dir", self.folder / "run"]
        self.assertEqual(self.run_fedctl(*run)[0], 0)
        self.expect(run, 2, "holds a run already", "--resume", "--fresh")
        other = self.write("other.yaml", TOY.replace("seed: 3", "seed: 4"))
        self.expect(["simulate", "--config", other, "--run-dir", self.folder / "run", "--resume"], 2, "another experiment")
        self.expect(["simulate", "--config", config, "--run-dir", self.folder / "new", "--resume"], 2, "no run to resume")

    def test_another_base_model(self):
        backbone = self.write("backbone.yaml", GLYPHS.replace("name: glyphs", "name: backbone").replace("rounds: 3", "rounds: 1")
                              .replace("{kind: lora, rank: 2, alpha: 4, targets: [query, value]}", "{kind: full}"))
        for seed in (1, 2):
            status, _, err = self.run_fedctl("backbone", "--config", backbone, "--set", f"seed={seed}", "--out", self.folder / f"b{seed}")
            self.assertEqual(status, 0, err)
        config = self.write("exp.yaml", GLYPHS.replace("{kind: vit, patch: 7, width: 32, depth: 2, heads: 2, mlp: 64}",
                                                       f"{{kind: vit, path: {self.folder}/b1}}"))
        site = self.write("site.yaml", f"model: {{path: {self.folder}/b2}}\n")
        server, port, _ = self.server(config)
        self.expect(["client", "--id", "0", "--server", f"127.0.0.1:{port}", "--site", site], 3, "base model differs", "the client has", "the server")
        self.expect(["client", "--id", "8", "--server", f"127.0.0.1:{port}"], 3, "8 is not in [0, 7]")
        server.terminate()
        self.finish(server, 143)


if __name__ == "__main__":
    unittest.main()
