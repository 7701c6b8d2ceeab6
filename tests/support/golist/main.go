// golist prints what Go's archive/tar reads from archives, one canonical line per entry.
//
// The names of the archives come on standard input, one per line; gzip is recognised. tarlist.cc
// prints the same from our reader, and tests/integration/tar_differential.py compares the two.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

// Content beyond this is not read: a sparse file of a few bytes can claim exabytes.
const contentMax = 64 << 20

const xattrPrefix = "SCHILY.xattr."

func escape(text string) string {
	var out strings.Builder
	for _, c := range []byte(text) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			strings.IndexByte("_./-", c) >= 0 {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%%%02x", c)
		}
	}
	return out.String()
}

func typeName(flag byte) string {
	switch flag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return "file"
	case tar.TypeLink:
		return "hardlink"
	case tar.TypeSymlink:
		return "symlink"
	case tar.TypeChar:
		return "char"
	case tar.TypeBlock:
		return "block"
	case tar.TypeDir:
		return "directory"
	case tar.TypeFifo:
		return "fifo"
	}
	return fmt.Sprintf("unknown-%02x", flag)
}

// isField reports whether a pax record is shown as one of the header's fields.
func isField(key string) bool {
	switch key {
	case "path", "linkpath", "uid", "gid", "size", "mtime":
		return true
	}
	return strings.HasPrefix(key, "GNU.sparse.")
}

func printEntry(out io.Writer, header *tar.Header, content string) {
	var link string
	var size, major, minor int64
	kind := typeName(header.Typeflag)
	switch kind {
	case "file":
		size = header.Size
	case "hardlink", "symlink":
		link = header.Linkname
	case "char", "block":
		major, minor = header.Devmajor, header.Devminor
	}
	fmt.Fprintf(out, "entry %s %s link=%s mode=%o uid=%d gid=%d size=%d mtime=%d.%09d dev=%d,%d"+
		" sha256=%s", kind, escape(header.Name), escape(link), header.Mode&0o7777, header.Uid,
		header.Gid, size, header.ModTime.Unix(), header.ModTime.Nanosecond(), major, minor, content)
	var records []string
	for key, value := range header.PAXRecords {
		if strings.HasPrefix(key, xattrPrefix) {
			records = append(records, " xattr:"+escape(key[len(xattrPrefix):])+"="+escape(value))
		} else if !isField(key) {
			records = append(records, " record:"+escape(key)+"="+escape(value))
		}
	}
	sort.Strings(records)
	fmt.Fprintln(out, strings.Join(records, ""))
}

func list(out io.Writer, name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var input io.Reader = bytes.NewReader(data)
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b, 0x08}) {
		if input, err = gzip.NewReader(input); err != nil {
			return err
		}
	}
	reader := tar.NewReader(input)
	for {
		header, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue // everyone who unpacks layers passes it over
		}
		if typeName(header.Typeflag) == "file" && header.Size > contentMax {
			return errors.New("content is too large for this test")
		}
		hash := sha256.New()
		if _, err := io.Copy(hash, reader); err != nil {
			return err
		}
		printEntry(out, header, fmt.Sprintf("%x", hash.Sum(nil)))
	}
	_, err = io.Copy(io.Discard, input)
	return err
}

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	names := bufio.NewScanner(os.Stdin)
	for names.Scan() {
		fmt.Fprintf(out, "archive %s\n", names.Text())
		if err := list(out, names.Text()); err != nil {
			fmt.Fprintf(out, "error %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Fprintln(out, "end")
		}
	}
}
