"""Every file of configs/methods: accepted, the same over TCP as simulated, and as many bytes as planned."""
import json
import unittest

from fedctl import ROOT, Case, digests, rounds

# What is left of the loss, at most: half of the weights stay where they are; slow clients are heard less; the body is random.
LOSS_LEFT = {"meerkat": 0.85, "fedasync": 0.2, "fedbuff": 0.2, "sfprompt": 0.45}
# How far the plan may be off: which directions come up, and how often, is chance; so is which texts are kept; who is late.
PLAN_OFF = {"streaming-diloco": 0.05, "ferret": 0.05, "fedkseed": 0.05, "fedkseed-pro": 0.05, "sfprompt": 0.05, "decoupled-diloco": 0.05}
# When clients talk is drawn.
PEERS_OFF = 0.05
# Without rounds what is merged when depends on who is faster.
WITHOUT_ROUNDS = {"decoupled-diloco", "fedasync", "fedbuff"}
CONFIGS = sorted((ROOT / "configs" / "methods").glob("*.yaml"))


class Methods(Case):
    def test_simulation_tcp_and_plan_agree(self):
        self.assertGreater(len(CONFIGS), 4)
        for config in CONFIGS:
            with self.subTest(config.stem):
                status, _, err = self.run_fedctl("check", "--config", config)
                self.assertEqual(status, 0, err)
                simulated = self.folder / f"{config.stem}-simulated"
                status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", simulated, "--quiet")
                self.assertEqual(status, 0, err)
                server, port, directory = self.server(config, config.stem, "--quiet")
                clients = [self.client("0-2", port), self.client("3-5", port)]
                for process in (server, *clients):
                    self.finish(process)
                same = config.stem not in WITHOUT_ROUNDS
                if same:
                    self.assertEqual(digests(directory), digests(simulated))
                else:
                    self.assertEqual(len(rounds(directory)), len(rounds(simulated)))
                    self.assertLess(rounds(directory)[-1]["loss"], 0.2 * rounds(directory)[0]["loss"])
                self.assertLess(rounds(simulated)[-1]["loss"], LOSS_LEFT.get(config.stem, 0.1) * rounds(simulated)[0]["loss"])
                for mine, theirs in zip(rounds(directory), rounds(simulated)) if same else ():
                    for way in ("up", "down"):
                        for part in ("payload", "framing"):
                            self.assertEqual(mine["bytes"][way][part], theirs["bytes"][way][part])
                status, out, err = self.run_fedctl("plan", "--config", config, "--format", "json")
                self.assertEqual(status, 0, err)
                plan = json.loads(out)["bytes"]
                if "bytes_peers" in rounds(simulated)[-1]:
                    for mine, theirs in zip(rounds(directory)[1:], rounds(simulated)[1:]):
                        for part in ("payload", "framing"):
                            self.assertEqual(mine["bytes"]["peers"][part], theirs["bytes"]["peers"][part])
                    # Neighbours have links of their own: nothing of it passes by the server.
                    passed = sum(line["bytes"][way]["control"] for line in rounds(directory)[3:] for way in ("up", "down"))
                    self.assertLess(passed, 0.1 * sum(line["bytes_peers"] for line in rounds(directory)[3:]))
                    measured = sum(line.get("bytes_peers", 0) for line in rounds(simulated))
                    self.assertAlmostEqual(plan["peers"]["total"], measured, delta=PEERS_OFF * measured)
                for way in ("up", "down"):
                    measured = rounds(simulated)[-1][f"bytes_{way}_total"]
                    self.assertAlmostEqual(plan[way]["total"], measured, delta=PLAN_OFF.get(config.stem, 0.01) * measured, msg=f"{config.stem} {way}")


if __name__ == "__main__":
    unittest.main()
