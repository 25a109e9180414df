package twin_test

import (
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/twin"
)

const (
	head   = "Received: by mx\r\nFrom:  a@example.test\r\nSubject: x\r\n y\r\nBcc: b@example.test\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=\"utf-8\"\r\n"
	status = "Letterlock-Status: encrypted; signature=valid; identity=directory; signer=0\r\nMIME-Version: 1.0\r\n"
	sent   = "Received: by mx\r\nFrom: a@example.test\r\nSubject: x\r\n y\r\n" + status + "Content-Type: text/plain;\r\n charset=utf-8;\r\n hp=\"cipher\"; protected-headers=\"v1\"\r\n"
	other  = "Received: by mx\r\nFrom:  a@example.test\r\nSubject: x\r\n y\r\nBcc: b@example.test\r\n" + status + "Content-Type: text/plain; charset=\"utf-8\"\r\n"
)

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name         string
		plain, shown string
		how          twin.How
		want         string // in the error; "" for none
	}{
		{"sealed and the same", head + "\r\nhi", head + "\r\nhi", twin.Sealed, ""},
		{"sealed and one byte more", head + "\r\nhi", head + "\r\nhi\n", twin.Sealed, "from byte"},
		{"protected and all that is listed", head + "\r\nhi\r\n", sent + "\r\nhi\r\n", twin.Protected, ""},
		{"protected and another body", head + "\r\nhi\r\n", sent + "\r\nho\r\n", twin.Protected, "body of 4 bytes"},
		{"protected and a field is gone", head + "\r\nhi\r\n", strings.Replace(sent, "Subject: x\r\n y\r\n", "", 1) + "\r\nhi\r\n", twin.Protected, "Subject"},
		{"protected and a field is new", head + "\r\nhi\r\n", sent + "X-New: 1\r\n\r\nhi\r\n", twin.Protected, "not in the message"},
		{"protected and Bcc is shown", head + "\r\nhi\r\n", "Bcc: b@example.test\r\n" + sent + "\r\nhi\r\n", twin.Protected, "field 0"},
		{"protected and another charset", head + "\r\nhi\r\n", strings.Replace(sent, "utf-8", "latin1", 1) + "\r\nhi\r\n", twin.Protected, "Content-Type"},
		{"protected and 8bit is encoded", head + "\r\n\xc3\xbc\r\n", sent + "Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=BC\r\n", twin.Protected, ""},
		{"protected and 8bit is another text", head + "\r\n\xc3\xbc\r\n", sent + "Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=BD\r\n", twin.Protected, "text of text/plain"},
		{"foreign and all that is listed", head + "\r\n\xc3\xbc", other + "\r\n\xc3\xbc", twin.Foreign, ""},
		{"foreign and without a status", head + "\r\nhi", strings.Replace(other, "Letterlock-Status", "X-Status", 1) + "\r\nhi", twin.Foreign, "Letterlock-Status"},
	} {
		err := twin.Check([]byte(tt.plain), []byte(tt.shown), tt.how)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
