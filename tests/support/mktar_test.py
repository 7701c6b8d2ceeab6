#!/usr/bin/env python3
"""What mktar writes as right is read the same by Python's tarfile."""

import io
import tarfile
import unittest

import mktar


class MktarTest(unittest.TestCase):
    def read(self, *parts):
        return tarfile.open(fileobj=io.BytesIO(mktar.archive(*parts)))

    def test_fields(self):
        archive = self.read(
            mktar.entry("a", data=b"x" * 513, mode=0o4755, uid=7, gid=8, mtime=9),
            mktar.symlink("b", "a"), mktar.hardlink("c", "a"), mktar.directory("d/"),
            mktar.entry("e", mktar.CHARACTER, major=1, minor=3))
        file, link, hard, folder, device = archive.getmembers()
        self.assertEqual((0o4755, 7, 8, 9, 513), (file.mode, file.uid, file.gid, file.mtime,
                                                  file.size))
        self.assertEqual(b"x" * 513, archive.extractfile(file).read())
        self.assertEqual((True, "a"), (link.issym(), link.linkname))
        self.assertEqual((True, "a"), (hard.islnk(), hard.linkname))
        self.assertTrue(folder.isdir())
        self.assertEqual((1, 3), (device.devmajor, device.devminor))

    def test_large_numbers_and_long_names(self):
        path = "/".join(["n" * 200] * 3)
        entries = self.read(mktar.entry("a", uid=2**31, mtime=-5), mktar.entry(path),
                            mktar.gnu_long(path), mktar.entry("short")).getmembers()
        self.assertEqual((2**31, -5), (entries[0].uid, entries[0].mtime))
        self.assertEqual([path, path], [found.name for found in entries[1:]])

    def test_pax_record_counts_its_own_digits(self):
        for length in range(0, 120):
            written = mktar.record("k", "v" * length)
            self.assertEqual(len(written), int(written.split(b" ")[0]))

    def test_wrong_checksum_is_written_as_asked(self):
        with self.assertRaises(tarfile.ReadError):
            self.read(mktar.entry("a", checksum=b"000000\0 "))


if __name__ == "__main__":
    unittest.main()
