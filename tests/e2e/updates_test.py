"""What `simulate --save-updates` leaves behind, for every method."""
import json
import struct
import unittest

from fedctl import ROOT, Case

SIZES = {"F32": 4, "F64": 8, "I32": 4, "I64": 8, "U8": 1}


def header_of(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length)), path.stat().st_size - 8 - length


class Updates(Case):
    def test_every_method_leaves_what_its_clients_send(self):
        for config in sorted((ROOT / "configs" / "methods").glob("*.yaml")):
            with self.subTest(config.stem):
                updates = self.folder / config.stem
                status, _, err = self.run_fedctl("simulate", "--config", config, "--set", "rounds=2", "--run-dir",
                                                 self.folder / f"run-{config.stem}", "--quiet", "--save-updates", updates)
                self.assertEqual(status, 0, err)
                files = sorted(updates.glob("exchange-*-client-*.safetensors"))
                self.assertTrue(files, "no message was saved")
                for path in files:
                    header, size = header_of(path)
                    metadata = header.pop("__metadata__")
                    self.assertTrue(metadata["kind"], path)
                    self.assertTrue(header or len(metadata) > 1, f"{path} says nothing")
                    self.assertEqual(max([0, *(t["data_offsets"][1] for t in header.values())]), size)
                    for tensor in header.values():
                        count = SIZES[tensor["dtype"]]
                        for side in tensor["shape"]:
                            count *= side
                        self.assertEqual(tensor["data_offsets"][1] - tensor["data_offsets"][0], count)


if __name__ == "__main__":
    unittest.main()
