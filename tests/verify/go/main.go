// Answers questions about notes and trees by Go's own x/mod, which knows nothing of Everwhen.
// One JSON question a line on stdin, one JSON answer a line on stdout.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type question struct {
	Ask       string
	Note      []byte
	Key       string
	Text      string
	Index     int64
	Size, Old int64
	Leaf      []byte
	Root      []byte
	OldRoot   []byte
	Path      [][]byte
	Folder    string
}

type answer struct {
	Yes  bool
	Why  string
	Text string
	Note []byte
	Path [][]byte
}

func hash(data []byte) (h tlog.Hash) {
	if len(data) != tlog.HashSize {
		panic("not a hash")
	}
	copy(h[:], data)
	return h
}

func hashes(path [][]byte) (found []tlog.Hash) {
	for _, part := range path {
		found = append(found, hash(part))
	}
	return found
}

// folder reads tiles from a folder in the layout of C2SP tlog-tiles.
type folder string

func (f folder) Height() int { return 8 }

func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}

func (f folder) ReadTiles(tiles []tlog.Tile) (found [][]byte, err error) {
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(string(f), path))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func (q question) tiles() tlog.HashReader {
	tree := tlog.Tree{N: q.Size, Hash: hash(q.Root)}
	return tlog.TileHashReader(tree, folder(q.Folder))
}

func reply(q question) (answer, error) {
	switch q.Ask {
	case "open":
		verifier, err := note.NewVerifier(q.Key)
		if err != nil {
			return answer{}, err
		}
		opened, err := note.Open(q.Note, note.VerifierList(verifier))
		if err != nil {
			return answer{}, err
		}
		return answer{Text: opened.Text}, nil
	case "sign":
		signer, err := note.NewSigner(q.Key)
		if err != nil {
			return answer{}, err
		}
		signed, err := note.Sign(&note.Note{Text: q.Text}, signer)
		return answer{Note: signed}, err
	case "inclusion":
		return answer{}, tlog.CheckRecord(hashes(q.Path), q.Size, hash(q.Root), q.Index, hash(q.Leaf))
	case "consistency":
		return answer{}, tlog.CheckTree(hashes(q.Path), q.Size, hash(q.Root), q.Old, hash(q.OldRoot))
	case "prove inclusion":
		proof, err := tlog.ProveRecord(q.Size, q.Index, q.tiles())
		return answer{Path: bytes(proof)}, err
	case "prove consistency":
		proof, err := tlog.ProveTree(q.Size, q.Old, q.tiles())
		return answer{Path: bytes(proof)}, err
	}
	return answer{}, fmt.Errorf("what is %q?", q.Ask)
}

func bytes(proof []tlog.Hash) (found [][]byte) {
	for _, h := range proof {
		found = append(found, append([]byte(nil), h[:]...))
	}
	return found
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			panic(err)
		}
		a, err := reply(q)
		a.Yes = err == nil
		if err != nil {
			a.Why = err.Error()
		}
		out.Encode(a)
	}
}
