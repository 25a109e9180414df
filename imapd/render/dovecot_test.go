package render_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/message"
)

// accepted are the differences to Dovecot 2.3 that we keep: for a message, the
// beginnings of the items that differ, and why.
var accepted = map[string]struct {
	items []string
	why   string
}{
	"nested":                                         {[]string{"BODY[1]"}, nestedWhy},
	"empty parts":                                    {[]string{"BODY[2.MIME]", "BODY[2.1.MIME]"}, "a part that is one empty line: we say it is the end of its header, Dovecot the delimiter's"},
	"rfc822 in base64":                               {[]string{"BODY[1.HEADER.FIELDS"}, "RFC 2046, Section 5.2.1 forbids it; we end the list of fields with the empty line in any case"},
	"rfc822 with multipart":                          {nested, nestedWhy},
	"chatmail/message/gmail_ndn.eml":                 {nested, nestedWhy},
	"chatmail/message/gmail_ndn_group.eml":           {nested, nestedWhy},
	"chatmail/message/unencrypted_signed_simple.eml": {[]string{"BODY"}, "a parameter without a value ends Dovecot's reading, before the boundary: it shows no part at all"},
	"muacrypt/multipart_report.eml":                  {[]string{"BODY[3.HEADER]", "BODY[3.1.MIME]"}, "an embedded message that ends with its header: we count the empty line, Dovecot gives it to the delimiter"},
	"chatmail/message/calendar-alternative.eml":      {[]string{"ENVELOPE"}, "Dovecot leaves the white space of a folded Message-ID within it"},
	"chatmail/message/invalid_email_to.eml":          {[]string{"ENVELOPE"}, "a domain that is none: Dovecot says SYNTAX_ERROR, we what stands there"},
	"broken addresses":                               {[]string{"ENVELOPE"}, "an unclosed address: Dovecot says SYNTAX_ERROR, we the domain that stands there"},
	"more broken addresses":                          {[]string{"ENVELOPE"}, "Dovecot drops what follows a second @, we only up to the comma"},
	"continued parameters":                           {[]string{"BODYSTRUCTURE"}, "Dovecot leaves a space unencoded in a value that it calls encoded (RFC 2231, Section 7 has none)"},
	"content type quoted":                            {[]string{"BODY"}, typeWhy},
	"empty content type":                             {[]string{"BODY"}, typeWhy},
	"content type nonsense":                          {[]string{"BODY"}, typeWhy},
	"content type without subtype":                   {[]string{"BODY"}, typeWhy},
	"disposition nonsense":                           {[]string{"BODYSTRUCTURE"}, "a disposition without a word is none; Dovecot's is the empty word"},
	"header without line end":                        {[]string{"BODY[HEADER.FIELDS"}, "we end the list of fields with the empty line that RFC 3501 asks for, in any case"},
}

var nested = []string{"BODY", "BODY[1"}

const (
	nestedWhy = "RFC 2046, Section 5.1.1: the line end before a delimiter belongs to it; Dovecot gives it to an inner multipart that was closed just before"
	typeWhy   = "RFC 2045, Section 5.2: a malformed Content-Type is text/plain; Dovecot's type is empty, which the grammar of clients is not ready for"
)

// TestAsDovecotSays puts messages into Dovecot and compares what it says of
// them with what we say, item by item.
func TestAsDovecotSays(t *testing.T) {
	d := peer.Dovecot(t)
	c := dial(t, d.Addr, peer.Alice, peer.AlicePassword)
	all := nasties()
	for name, raw := range corpusMessages(t) {
		all[name] = raw
	}
	var names []string
	for name, raw := range all {
		if len(raw) > 0 {
			names = append(names, name)
		}
	}
	for _, name := range names {
		c.append("INBOX", all[name])
	}
	c.run("SELECT INBOX")
	for i, name := range names {
		t.Run(name, func(t *testing.T) {
			c.t = t
			compare(t, c, i+1, name, all[name])
		})
	}
	t.Logf("%d messages", len(names))
}

func compare(t *testing.T, c *rawClient, seq int, name string, raw []byte) {
	m, err := render.New(message.Bytes(raw), message.Limits{})
	if err != nil {
		t.Skipf("not rendered: %v", err)
	}
	known, found := accepted[name], 0
	defer func() {
		if known.why != "" && found == 0 {
			t.Errorf("no difference any more: %s", known.why)
		}
	}()
	differ := func(item string, got, want any) {
		t.Helper()
		if slices.ContainsFunc(known.items, func(prefix string) bool { return strings.HasPrefix(item, prefix) }) {
			found++
			return
		}
		a, b := fmt.Sprintf("%q", got), fmt.Sprintf("%q", want)
		at := 0
		for at < min(len(a), len(b)) && a[at] == b[at] {
			at++
		}
		at = max(0, at-60)
		t.Errorf("%s\n ours:    %.400s\n dovecot: %.400s", item, a[at:], b[at:])
	}
	got := c.fetch(seq, "RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE")
	if s := strconv.FormatInt(m.Size(), 10); s != string(got["RFC822.SIZE"]) {
		differ("RFC822.SIZE", s, got["RFC822.SIZE"])
	}
	for item, ours := range map[string][]byte{"ENVELOPE": m.Envelope(), "BODY": m.Body(), "BODYSTRUCTURE": m.BodyStructure()} {
		a, b := parse(t, ours), parse(t, got[item])
		if item != "ENVELOPE" {
			b = lowered(b)
			a = lowered(a)
		}
		if !reflect.DeepEqual(a, b) {
			differ(item, ours, got[item])
		}
	}
	for _, section := range sections(m) {
		compareSection(t, c, seq, m, section, differ)
	}
}

// lowered makes what is compared without case in a structure lower case.
func lowered(v any) any {
	list, ok := v.([]any)
	if !ok {
		if s, ok := v.(string); ok {
			return strings.ToLower(s)
		}
		return v
	}
	out := make([]any, len(list))
	for i := range list {
		out[i] = lowered(list[i])
	}
	return out
}

func compareSection(t *testing.T, c *rawClient, seq int, m *render.Message, section string, differ func(string, any, any)) {
	t.Helper()
	items, err := wire.ParseFetchItems(wire.ListToken(wire.AtomToken("BODY.PEEK[" + section + "]")))
	if err != nil {
		t.Fatalf("%s: %v", section, err)
	}
	var want any = nil
	for _, v := range c.fetch(seq, "BODY.PEEK["+section+"]") {
		want = parse(t, v)
	}
	src, _ := m.Section(*items[0].Section)
	ours, err := message.ReadAll(src, 100<<20)
	if err != nil {
		t.Fatal(err)
	}
	if string(ours) != want {
		differ("BODY["+section+"]", ours, want)
	}
}

// sections is what is asked of every message: every part that it has, and some
// that it has not.
func sections(m *render.Message) []string {
	all := []string{"", "HEADER", "TEXT", "HEADER.FIELDS (From SUBJECT Content-Type X-None)", "HEADER.FIELDS.NOT (From Subject Received)", "HEADER.FIELDS (X-None)",
		"1", "1.MIME", "1.HEADER", "1.TEXT", "1.1", "1.1.MIME", "2", "99", "1.99.1.MIME", "99.HEADER", "1.HEADER.FIELDS (From)"}
	n := 0
	for p := range m.Root.All() {
		if n++; len(p.Section) == 0 || n > 40 {
			continue
		}
		s := strings.Trim(strings.ReplaceAll(fmt.Sprint(p.Section), " ", "."), "[]")
		all = append(all, s, s+".MIME", s+".HEADER", s+".TEXT", s+".1", s+".1.MIME", s+".HEADER.FIELDS (Subject To)")
	}
	return all
}

// corpusMessages is what looks like a message in LETTERLOCK_CORPUS, with CRLF.
func corpusMessages(t *testing.T) map[string][]byte {
	dir := os.Getenv("LETTERLOCK_CORPUS")
	all := map[string][]byte{}
	if dir == "" {
		t.Log("LETTERLOCK_CORPUS is not set: only generated messages")
		return all
	}
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) > 4<<20 {
			return err
		}
		head := bytes.ToLower(b[:min(len(b), 8192)])
		if !strings.HasSuffix(path, ".eml") && !bytes.Contains(head, []byte("\nfrom:")) && !bytes.Contains(head, []byte("\ncontent-type:")) {
			return nil
		}
		rel, _ := filepath.Rel(dir, path)
		all[rel] = crlf(b)
		return nil
	})
	if len(all) < 50 {
		t.Errorf("only %d messages in the corpus", len(all))
	}
	return all
}

func crlf(b []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}
