"""The same experiment gives the same bytes: simulated, over TCP, in any order, in one process or many."""
import unittest

from fedctl import GLYPHS, TOY, Case, CountingProxy, digests, journal, rounds, without_times

HEADER = 20


def frames(stream):
    """(type, exchange, bytes) of each frame in one direction of one connection."""
    at = 0
    while at < len(stream):
        size = HEADER + int.from_bytes(stream[at + 4:at + 8], "little")
        yield stream[at + 3], int.from_bytes(stream[at + 8:at + 16], "little"), size
        at += size
    assert at == len(stream), "a frame broke off"


class Identity(Case):
    def over_tcp(self, config, run, groups, *more, clients=8):
        server, port, directory = self.server(config, run, *more)
        hosted = [self.client(ids, port) for ids in groups]
        self.finish(server)
        for process in hosted:
            self.finish(process)
        return directory

    def simulated(self, config, run, *more):
        directory = self.folder / run
        status, _, err = self.run_fedctl("simulate", "--config", config, "--run-dir", directory, *more)
        self.assertEqual(status, 0, err)
        return directory

    def test_simulation_and_processes_agree(self):
        config = self.write("exp.yaml", GLYPHS)
        one_by_one = [str(i) for i in range(8)]
        expected = self.simulated(config, "simulated", "--threads", "2")
        self.assertEqual(len(digests(expected)), 4)
        self.assertEqual(len(set(digests(expected))), 4)
        for run, groups, more in [("tcp", one_by_one, ["--threads", "1"]),
                                  ("reversed", one_by_one[::-1], ["--threads", "2"]),
                                  ("hosted", ["0-7"], ["--threads", "1"])]:
            with self.subTest(run):
                directory = self.over_tcp(config, run, groups, *more)
                self.assertEqual(digests(directory), digests(expected))
                for mine, theirs in zip(rounds(directory), rounds(expected)):
                    for way in ("up", "down"):
                        for part in ("payload", "framing"):
                            self.assertEqual(mine["bytes"][way][part], theirs["bytes"][way][part])

    def test_memory_on_both_sides_agrees(self):
        config = self.write("exp.yaml", GLYPHS.replace("ef14", "ef21, error_feedback_down: ef21")
                            .replace("down: [{kind: float16}]", "down: {kind: auto, bits_per_parameter: 2}")
                            .replace("count: 8", "count: 8, per_round: 5"))
        expected = self.simulated(config, "simulated")
        directory = self.over_tcp(config, "tcp", ["0-3", "4-7"])
        self.assertEqual(digests(directory), digests(expected))
        for mine, theirs in zip(rounds(directory), rounds(expected)):
            for way in ("up", "down"):
                self.assertEqual(mine["bytes"][way]["payload"], theirs["bytes"][way]["payload"])
        self.assertEqual(sum(line.get("rejected", 0) for line in rounds(directory)), 0)

    def test_threads_do_not_show(self):
        config = self.write("exp.yaml", GLYPHS)
        lines = [[without_times(line) for line in rounds(self.simulated(config, f"t{n}", "--threads", str(n)))]
                 for n in (1, 2)]
        self.assertEqual(lines[0], lines[1])

    def test_journal_counts_what_the_wire_saw(self):
        config = self.write("exp.yaml", GLYPHS)
        server, port, directory = self.server(config)
        proxy = CountingProxy(port)
        self.addCleanup(proxy.close)
        hosted = [self.client(str(i), proxy.port) for i in range(8)]
        self.finish(server)
        for process in hosted:
            self.finish(process)
        proxy.close()

        # Data frames carry their round; the handshakes count in round 1, the goodbye after the last round.
        seen = {"up": {}, "down": {}}
        for pair in proxy.streams:
            for way, stream in zip(("up", "down"), pair):
                for kind, exchange, size in frames(stream):
                    key = exchange if kind == 0 else "control"
                    seen[way][key] = seen[way].get(key, 0) + size
        lines = rounds(directory)
        end = journal(directory)[-1]
        for way in ("up", "down"):
            control = 0
            for line in lines:
                parts = line["bytes"][way]
                self.assertEqual(sum(parts.values()), line[f"bytes_{way}"])
                data = parts["payload"] + parts["framing"]
                self.assertEqual(data, seen[way].get(line["round"], 0), f"round {line['round']} {way}")
                control += parts["control"]
            last = end[f"bytes_{way}_total"] - lines[-1][f"bytes_{way}_total"]
            self.assertEqual(control + last, seen[way]["control"])
            self.assertEqual(end[f"bytes_{way}_total"], sum(len(pair[way == "down"]) for pair in proxy.streams))
            self.assertEqual(lines[0][f"bytes_{way}"], 0)

    def test_a_simulation_counts_handshakes_and_the_end_as_tcp_does(self):
        neighbours = TOY + "method: {kind: dpsgd, graph: ring}\n"
        for name, text, ids in (("toy", TOY, 6), ("glyphs", GLYPHS.replace("rounds: 3", "rounds: 2"), 8), ("ring", neighbours, 6)):
            with self.subTest(name):
                config = self.write(f"{name}.yaml", text)
                expected = self.simulated(config, f"{name}-simulated")
                directory = self.over_tcp(config, f"{name}-tcp", [f"0-{ids // 2}", f"{ids // 2 + 1}-{ids - 1}"])
                for mine, theirs in zip(rounds(directory), rounds(expected)):
                    for way in ("up", "down"):
                        found = theirs["bytes"][way]
                        self.assertEqual(found["control"] > 0, mine["round"] == 1)
                        self.assertEqual(found["tls"] + found["resent"], 0)
                        self.assertEqual(sum(found.values()), theirs[f"bytes_{way}"])
                        if name != "ring":  # where the server also says who is whose neighbour
                            self.assertEqual(mine["bytes"][way], found)
                            self.assertEqual(mine[f"bytes_{way}_total"], theirs[f"bytes_{way}_total"])
                end, simulated_end = journal(directory)[-1], journal(expected)[-1]
                if name != "ring":
                    for way in ("up", "down"):
                        self.assertEqual(end[f"bytes_{way}_total"], simulated_end[f"bytes_{way}_total"])
                # Once in a run, also in one that stopped and went on.
                first = rounds(expected)[1]["bytes_up_total"] + rounds(expected)[1]["bytes_down_total"]
                self.simulated(config, f"{name}-half", "--set", f"budget.total_bytes={first + 10}")
                half = rounds(self.simulated(config, f"{name}-half", "--resume"))
                self.assertEqual([line["digest"] for line in half], digests(expected))
                self.assertEqual([line["bytes"]["up"]["control"] for line in half],
                                 [line["bytes"]["up"]["control"] for line in rounds(expected)])

    def test_a_backbone_is_the_same_file_every_time(self):
        config = self.write("exp.yaml", GLYPHS.replace("{kind: lora, rank: 2, alpha: 4, targets: [query, value]}", "{kind: full}"))
        files = []
        for run in ("one", "two"):
            status, _, err = self.run_fedctl("backbone", "--config", config, "--out", self.folder / run)
            self.assertEqual(status, 0, err)
            files.append((self.folder / run / "model.safetensors").read_bytes())
        self.assertEqual(files[0], files[1])

    def test_toy_closed_form_over_tcp(self):
        """x_t = c + (1 - lr)^(steps t) (x_0 - c): the loss against D falls by the square of the factor."""
        config = self.write("exp.yaml", TOY)
        directory = self.over_tcp(config, "toy", ["0-5"])
        losses = [line["loss"] for line in rounds(directory)]
        for before, after in zip(losses, losses[1:]):
            self.assertAlmostEqual(after / before, (1 - 0.05) ** (2 * 5), delta=1e-5)


if __name__ == "__main__":
    unittest.main()
