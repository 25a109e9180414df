// Package pgp is OpenPGP and PGP/MIME for mail.
//
// [Protect] makes a message that only its recipients can read, signed, with its
// header inside (RFC 3156, RFC 9788); [Open] is its counterpart and says how
// much of it may be believed. [Seal] locks a message away for its owner, byte
// for byte. [Certificate] is somebody's public key; a [Key] has the secrets and
// shows itself to others only as a [Signer] or [Decrypter].
//
// Nothing here touches the network, and no plaintext is released before its
// integrity is known. Hostile bytes give an error or a verdict, never a panic.
package pgp
