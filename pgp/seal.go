package pgp

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
)

// Sealing says how Seal stores a message for its owner.
type Sealing struct {
	Signer  Signer
	Storage *Certificate // whom it is sealed to; the owner's own
	// From is the owner's address, which stands outside; if zero, the address
	// of the message's own From field, where Signer's certificate has it, else
	// none.
	From  address.Address
	Now   time.Time // zero means now
	Spool message.SpoolOptions
}

// sealedNotation marks a signature as that of storage; critical, so that nobody
// who doesn't know it takes it for a letter's.
const (
	sealedNotation = "sealed@letterlock.org"
	sealedValue    = "v1"
)

// Seal writes src, whole, sealed for its owner; Open gives back its very bytes.
// Outside stand only Message-ID, Date, the owner's address and "[...]"; what of
// these is odd is left out. The signature carries a critical notation, so that
// it is no good as that of a letter. Keys that have expired do, since a message
// that can't be filed is lost; revoked ones don't. src need not be a well-formed
// message. What w has got is worth nothing if there is an error.
func Seal(ctx context.Context, w io.Writer, src message.Source, s Sealing) (err error) {
	defer caught(&err)
	if s.Now.IsZero() {
		s.Now = time.Now()
	}
	if made := s.Storage.Created(); s.Now.Before(made) {
		s.Now = made // the clock was set back
	}
	e := encryption{
		signer:     s.Signer,
		recipients: []*Certificate{s.Storage},
		now:        s.Now,
		storage:    true,
		notations: []*packet.Notation{{
			Name: sealedNotation, Value: []byte(sealedValue), IsCritical: true, IsHumanReadable: true,
		}},
	}
	err = encrypted(ctx, w, s.label(src), func(out io.Writer) error {
		return copyRange(ctx, out, src, 0, src.Size())
	}, e)
	if err != nil {
		return fmt.Errorf("sealing a message: %w", err)
	}
	return nil
}

// label is what stands outside.
func (s Sealing) label(src message.Source) []byte {
	h, err := message.ReadHeader(src, 0)
	if err != nil {
		h = message.Header{} // too long, or no header at all: it is sealed unread
	}
	var out []byte
	if from := s.owner(h); !from.IsZero() {
		out = field{"From", " " + from.String()}.append(out)
	}
	if d := dateOnly(h.Get("Date")); d != "" {
		out = field{"Date", d}.append(out)
	}
	if id := h.Get("Message-ID"); plainID(id) {
		out = field{"Message-ID", " " + id}.append(out)
	}
	return field{"Subject", " [...]"}.append(out)
}

// owner is the address that stands outside. Somebody else's, in a message that
// was only filed here, does not.
func (s Sealing) owner(h message.Header) address.Address {
	if !s.From.IsZero() {
		return s.From
	}
	list, err := address.ParseList(h.Get("From"))
	if err == nil && len(list) == 1 && s.Signer.Certificate().Has(list[0].Address) {
		return list[0].Address
	}
	return address.Address{}
}
