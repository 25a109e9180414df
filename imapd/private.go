package imapd

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"sync"
	"unicode/utf16"

	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/message"
)

// seals tells whether an upload is sealed. Under AppendPrivate that is what lies in
// a mailbox for drafts, templates or what was sent, as far as anyone can tell: by
// what the upstream says of the mailbox, by what a client made it for, or by its
// name; what says of itself that it is a draft; and, wherever it is put, what came
// encrypted or is about something that did: programs move mail by uploading it
// again, and file answers beside what they answer.
func (s *session) seals(args []wire.Token, up *upload) (bool, error) {
	switch s.account.Append {
	case AppendNone:
		return false, nil
	case AppendPrivate:
		name := args[0].Text()
		if len(args) > 1 && hasFlag(args[1], `\Draft`) || isDraft(up) || s.hasPrivateName(name) || s.srv.made.has(s.account.Name, name) {
			return true, nil
		}
		if letter, err := s.ofLetter(up); letter || err != nil {
			return letter, err
		}
		return s.special(name)
	}
	return true, nil
}

func hasFlag(t wire.Token, flag string) bool {
	return slices.ContainsFunc(t.List, func(f wire.Token) bool { return f.Is(flag) })
}

// isDraft tells whether a message has the field that Thunderbird gives drafts and
// templates.
func isDraft(up *upload) bool {
	h, err := message.ReadHeader(up.Spool, 0)
	return err == nil && h.Has("X-Mozilla-Draft-Info")
}

// maxNamed bounds the messages that an upload may name before it is taken to be
// about one that came encrypted.
const maxNamed = 2000

// ofLetter tells whether an upload is a message that was shown decrypted, or says
// in its header that it is about one.
func (s *session) ofLetter(up *upload) (bool, error) {
	h, err := message.ReadHeader(up.Spool, 0)
	if err != nil && !errors.Is(err, message.ErrLimit) {
		return false, err
	}
	if slices.ContainsFunc(h.All("Letterlock-Status"), func(f message.Field) bool { return strings.HasPrefix(strings.TrimSpace(f.Value()), "encrypted;") }) {
		return true, nil
	}
	var ids []string
	for _, name := range []string{"Message-ID", "In-Reply-To", "References", "X-Forwarded-Message-Id", "Resent-Message-ID"} {
		for _, f := range h.All(name) {
			ids = append(ids, message.MessageIDs(f.Value())...)
		}
	}
	if len(ids) > maxNamed {
		return true, nil
	}
	for _, id := range ids {
		if was, err := s.account.Library.WasOpened(s.ctx, id); was || err != nil {
			return was, err
		}
	}
	return false, nil
}

func (s *session) hasPrivateName(mailbox string) bool {
	names := s.account.Private
	if names == nil {
		names = privateNames
	}
	mailbox = decodeUTF7(mailbox)
	last := mailbox[strings.LastIndexAny(mailbox, "/.\\")+1:]
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, mailbox) || strings.EqualFold(n, last) })
}

// privateNames are what mail programs and servers call the mailboxes for drafts,
// for templates and for what was sent, where the upstream doesn't mark them.
var privateNames = strings.Split("Sent|Sent Items|Sent Messages|Sent Mail|Sent Objects|Drafts|Draft|Templates|"+
	"Entwürfe|Entwurf|Vorlagen|Gesendet|Gesendete Objekte|Gesendete Elemente|Gesendete Nachrichten|Postausgang gesendet|"+
	"Brouillons|Brouillon|Modèles|Envoyés|Éléments envoyés|Messages envoyés|Courrier envoyé|"+
	"Borradores|Borrador|Plantillas|Enviados|Elementos enviados|Mensajes enviados|Correo enviado|Esborranys|Enviats|"+
	"Bozze|Modelli|Inviati|Inviata|Posta inviata|Elementi inviati|Messaggi inviati|"+
	"Rascunhos|Modelos|Itens enviados|Itens Enviados|Mensagens enviadas|E-mails enviados|"+
	"Concepten|Sjablonen|Verzonden|Verzonden items|Verzonden berichten|Verzonden objecten|"+
	"Utkast|Mallar|Skickat|Skickade|Skickade objekt|Kladder|Kladde|Skabeloner|Sendt|Sendte|Sendt post|Sendte elementer|Maler|Sendte meldinger|"+
	"Luonnokset|Mallit|Lähetetyt|Lähetetyt viestit|Drög|Mustandid|Saadetud|Juodraščiai|Išsiųsta|Melnraksti|Nosūtītie|"+
	"Szkice|Wersje robocze|Kopie robocze|Szablony|Wysłane|Elementy wysłane|"+
	"Koncepty|Rozpracované|Rozepsané|Šablony|Odeslané|Odeslaná pošta|Odeslané zprávy|Odoslané|Odoslaná pošta|"+
	"Piszkozatok|Sablonok|Elküldött|Elküldött elemek|Elküldött üzenetek|Ciorne|Trimise|Mesaje trimise|"+
	"Nacrti|Skice|Osnutki|Poslano|Poslane poruke|Poslane stavke|Predlošci|"+
	"Черновики|Шаблоны|Отправленные|Чернетки|Шаблони|Надіслані|Відправлені|Чернови|Изпратени|"+
	"Πρόχειρα|Πρότυπα|Απεσταλμένα|Taslaklar|Şablonlar|Gönderilmiş|Gönderilenler|Gönderilmiş Öğeler|Gönderilmiş Postalar|"+
	"טיוטות|תבניות|נשלחו|פריטים שנשלחו|المسودات|مسودات|القوالب|البريد المرسل|المرسلة|"+
	"草稿|草稿箱|草稿夹|模板|范本|已发送|已发送邮件|已傳送|已寄出|寄件備份|寄件匣|已发邮件|"+
	"下書き|テンプレート|ひな形|送信済み|送信済みアイテム|送信済みトレイ|送信済みメール|"+
	"임시 보관함|임시보관함|템플릿|초안|보낸 편지함|보낸편지함|보낸 메일함", "|")

// decodeUTF7 reads a mailbox name as it goes over the wire (RFC 3501, Section
// 5.1.3). What isn't spelled that way stays as it is.
func decodeUTF7(name string) string {
	var b strings.Builder
	for {
		plain, rest, coded := strings.Cut(name, "&")
		b.WriteString(plain)
		if !coded {
			return b.String()
		}
		run, after, ok := strings.Cut(rest, "-")
		raw, err := base64.RawStdEncoding.DecodeString(strings.ReplaceAll(run, ",", "/"))
		switch {
		case !ok || err != nil || len(raw)%2 != 0:
			b.WriteString("&" + rest)
			return b.String()
		case run == "":
			b.WriteByte('&')
		}
		var units []uint16
		for i := 0; i < len(raw); i += 2 {
			units = append(units, uint16(raw[i])<<8|uint16(raw[i+1]))
		}
		b.WriteString(string(utf16.Decode(units)))
		name = after
	}
}

// special tells whether the upstream marks a mailbox as one for drafts or for
// what was sent (RFC 6154). It asks each time: any client may have changed it. A
// server that marks mailboxes and doesn't tell which is taken to mark this one.
func (s *session) special(mailbox string) (marked bool, err error) {
	if !s.up.has("SPECIAL-USE") {
		return false, nil
	}
	if err := s.relay.barrier(); err != nil {
		return false, err
	}
	p := &pending{quiet: true, untagged: func(h wire.Head) (bool, error) {
		if h.Name != "LIST" {
			return false, nil
		}
		b, err := s.up.r.Collect(64 << 10)
		marked = marked || err == nil && marksPrivate(b, mailbox)
		return true, err
	}}
	status, _, err := s.relay.run((&wire.Out{}).String(`LIST (SPECIAL-USE) "" "*"`), p)
	return marked || status != "OK", err
}

// marksPrivate reads "* LIST (\Sent …) "/" name".
func marksPrivate(b []byte, mailbox string) bool {
	c, err := wire.NewCommandReader(strings.NewReader("x"+string(b[1:])), wire.Limits{}).Next()
	if err != nil || len(c.Args) < 3 || c.Args[2].Text() != mailbox {
		return false
	}
	return hasFlag(c.Args[0], `\Sent`) || hasFlag(c.Args[0], `\Drafts`)
}

// madeFor is which mailboxes clients made for drafts or for what was sent, by
// CREATE with USE (RFC 6154, Section 3): the upstream may not say so again. It is
// safe for concurrent use.
type madeFor struct {
	mu    sync.Mutex
	names map[[2]string]bool // guarded by mu
}

// maxMade bounds the mailboxes that are noted.
const maxMade = 10000

func (m *madeFor) has(account, mailbox string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.names[[2]string{account, mailbox}]
}

// note looks at a command, CREATE or RENAME.
func (m *madeFor) note(account string, c *wire.Command) {
	if len(c.Args) != 2 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to := c.Args[0].Text(), ""
	switch list := c.Args[1].List; {
	case c.Name == "RENAME" && m.names[[2]string{account, from}]:
		to = c.Args[1].Text()
	case c.Name == "CREATE" && len(list) == 2 && list[0].Is("USE") && (hasFlag(list[1], `\Sent`) || hasFlag(list[1], `\Drafts`)):
		to = from
	}
	if to == "" || len(m.names) >= maxMade {
		return
	}
	if m.names == nil {
		m.names = map[[2]string]bool{}
	}
	m.names[[2]string{account, to}] = true
}
