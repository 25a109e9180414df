"use strict";
(() => {
  const $ = id => document.getElementById(id);
  const sealed = $("sealed"), form = $("form"), field = $("password"), status = $("status"), button = $("open");
  const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
  const utf8 = new TextEncoder();
  const damaged = "This page is damaged or was changed on its way, so nothing of it is shown. Ask the sender to send it again.";

  const say = (text, bad) => {
    status.textContent = text;
    status.className = bad ? "bad" : "dim";
  };
  class Told extends Error {}

  // What can be done only in a secure context: a page from a disk is one, or from https.
  if (!window.isSecureContext || !window.crypto || !crypto.subtle) {
    say("This browser can't open the message from here. Save this page to your device and open it from there, with a current Firefox, Chrome, Edge or Safari.", true);
    return;
  }
  form.hidden = false;
  field.focus();
  $("show").addEventListener("change", e => { field.type = e.target.checked ? "text" : "password"; });

  // A password of ours has a checksum, so that mistyping is told before any work.
  const typed = async () => {
    const text = field.value.trim().normalize("NFC");
    if (text === "") throw new Told("Please enter the password.");
    if (sealed.dataset.password !== "made") return text;
    const signs = text.toLowerCase().replace(/[^0-9a-z]/g, "").replace(/o/g, "0").replace(/[il]/g, "1");
    if (signs.length !== 20) throw new Told("That can't be it: the password has four groups of five letters or digits.");
    const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", utf8.encode("letterlock password " + signs.slice(0, 18))));
    if (signs.slice(18) !== alphabet[sum[0] >> 3] + alphabet[(sum[0] & 7) << 2 | sum[1] >> 6])
      throw new Told("There is a mistake in the password as you typed it. Please compare it once more.");
    return signs.match(/.{5}/g).join("-");
  };

  const bytes = base64 => {
    const s = atob(base64), out = new Uint8Array(s.length);
    for (let i = 0; i < s.length; i++) out[i] = s.charCodeAt(i);
    return out;
  };

  const derive = async (password, p) => {
    const base = await crypto.subtle.importKey("raw", utf8.encode(password), "PBKDF2", false, ["deriveBits"]);
    const stretched = await crypto.subtle.deriveBits({ name: "PBKDF2", hash: "SHA-256", salt: p.salt, iterations: p.rounds }, base, 256);
    const hkdf = await crypto.subtle.importKey("raw", stretched, "HKDF", false, ["deriveBits", "deriveKey"]);
    const use = name => ({ name: "HKDF", hash: "SHA-256", salt: p.salt, info: utf8.encode("letterlock form 1 " + name) });
    const check = new Uint8Array(await crypto.subtle.deriveBits(use("check"), hkdf, 128));
    let differ = check.length ^ p.check.length;
    for (let i = 0; i < check.length; i++) differ |= check[i] ^ p.check[i];
    if (differ) throw new Told("This is not the password of this message.");
    return crypto.subtle.deriveKey(use("key"), hkdf, { name: "AES-GCM", length: 256 }, false, ["decrypt"]);
  };

  const params = () => {
    const d = sealed.dataset;
    const p = { rounds: Number(d.rounds), chunk: Number(d.chunk), salt: bytes(d.salt), check: bytes(d.check) };
    if (d.version !== "1" || !(p.rounds >= 600000 && p.rounds <= 10000000) || p.chunk !== 1048576 || p.salt.length !== 16) throw new Error("parameters");
    p.bound = utf8.encode(`letterlock form 1\nrounds=${p.rounds}\nchunk=${p.chunk}\nsalt=${d.salt}\n`);
    return p;
  };

  // Every chunk is under its number and whether it is the last; nothing is used
  // before all of them were right.
  const decrypt = async (key, p) => {
    const text = sealed.textContent.replace(/[^0-9A-Za-z+/=]+/g, "");
    const size = p.chunk + 16, total = Math.floor(text.length / 4) * 3 - (text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0);
    const count = Math.max(1, Math.ceil(total / size));
    if (text.length % 4 || total < 16 || total - (count - 1) * size < 16) throw new Error("length");
    const plain = new Uint8Array(total - count * 16);
    const step = size * 4; // base64 characters of three chunks
    for (let at = 0, n = 0; at < text.length; at += step) {
      const some = bytes(text.slice(at, at + step));
      for (let i = 0; i < some.length; i += size, n++) {
        const iv = new Uint8Array(12);
        new DataView(iv.buffer).setUint32(7, n);
        iv[11] = n === count - 1 ? 1 : 0;
        const part = await crypto.subtle.decrypt({ name: "AES-GCM", iv, additionalData: p.bound }, key, some.subarray(i, i + size));
        plain.set(new Uint8Array(part), n * p.chunk);
      }
    }
    return plain;
  };

  const take = plain => {
    const read = b => new TextDecoder("utf-8", { fatal: true }).decode(b);
    const head = new DataView(plain.buffer).getUint32(0);
    const about = JSON.parse(read(plain.subarray(4, 4 + head)));
    let at = 4 + head;
    const next = n => {
      if (!Number.isSafeInteger(n) || n < 0 || at + n > plain.length) throw new Error("sizes");
      return plain.subarray(at, at += n);
    };
    const text = read(next(about.text)), html = read(next(about.html));
    const files = about.files.map(f => ({ name: f.name, data: next(f.size) }));
    if (at !== plain.length) throw new Error("sizes");
    return { about, text, html, files };
  };

  const human = n => n < 1000 ? n + " B" : n < 1e6 ? (n / 1e3).toFixed(n < 1e4 ? 1 : 0) + " kB" : (n / 1e6).toFixed(1) + " MB";
  const element = (name, text, into) => {
    const e = document.createElement(name);
    if (text !== undefined) e.textContent = text;
    if (into) into.append(e);
    return e;
  };
  // A link leads where its text says.
  const link = (url, into) => {
    const a = element("a", url, into);
    a.href = url;
    a.target = "_blank";
    a.rel = "noopener noreferrer";
  };

  const head = about => {
    $("subject").textContent = about.subject || "(no subject)";
    const row = (name, value) => {
      if (!value) return;
      element("dt", name, $("head"));
      element("dd", value, $("head"));
    };
    row("From", about.from);
    row("To", about.to);
    row("Cc", about.cc);
    if (about.date) row("Date", new Date(about.date).toLocaleString(undefined, { dateStyle: "full", timeStyle: "short" }));
  };

  // The frame can't be measured from here; a short message needs no tall one.
  const height = html => {
    if (/<img\b/i.test(html)) return 60;
    const lines = html.split(/<(?:br|p|div|tr|li|h[1-6]|pre)\b/i).length + html.slice(html.indexOf("<body>")).replace(/<[^>]*>/g, "").length / 40;
    return Math.max(8, Math.round(lines * 2.2));
  };

  const body = m => {
    const pre = element("pre", undefined, $("body"));
    for (const piece of m.text.split(/(https?:\/\/[^\s<>"\u0000-\u001f]*[^\s<>"'.,;:!?)\]}\u0000-\u001f])/)) {
      if (/^https?:\/\/./.test(piece)) link(piece, pre);
      else pre.append(piece);
    }
    if (!m.html) return;
    const frame = document.createElement("iframe");
    frame.setAttribute("sandbox", "");
    frame.referrerPolicy = "no-referrer";
    frame.title = "The message as its sender formatted it";
    frame.srcdoc = m.html;
    frame.style.height = `min(65vh, ${height(m.html)}rem)`;
    $("body").append(frame);
    pre.hidden = true;
    if (!m.text) return;
    const views = [["Formatted", frame], ["Plain text", pre]];
    for (const [name, view] of views) {
      const b = element("button", name, $("views"));
      b.type = "button";
      b.className = "view";
      b.setAttribute("aria-pressed", view === frame);
      b.addEventListener("click", () => {
        for (const [, v] of views) v.hidden = v !== view;
        for (const o of $("views").children) o.setAttribute("aria-pressed", o === b);
      });
    }
    $("views").hidden = false;
  };

  // The type says nothing of the content, so that a browser saves a file and
  // never shows it as part of this page.
  const files = m => {
    for (const f of m.files) {
      const a = element("a", undefined, element("li", undefined, $("files")));
      element("bdi", f.name, a);
      element("span", human(f.data.length), a);
      a.href = URL.createObjectURL(new Blob([f.data], { type: "application/octet-stream" }));
      a.download = f.name;
    }
    $("attached").hidden = m.files.length === 0;
  };

  const show = m => {
    head(m.about);
    body(m);
    files(m);
    for (const url of m.about.links || []) link(url, element("p", undefined, $("links")));
    $("linked").hidden = !(m.about.links || []).length;
    $("linked").open = (m.about.links || []).length <= 3;
    sealed.remove();
    $("ask").remove();
    $("message").hidden = false;
    $("subject").focus();
  };

  let busy = false;
  form.addEventListener("submit", async e => {
    e.preventDefault();
    if (busy) return;
    busy = button.disabled = true;
    try {
      const password = await typed();
      say("Opening\u2026 this takes a moment.");
      await new Promise(done => setTimeout(done, 30)); // so that it is seen
      const p = params();
      const key = await derive(password, p);
      const m = take(await decrypt(key, p));
      field.value = "";
      show(m);
    } catch (err) {
      say(err instanceof Told ? err.message : damaged, true);
      field.focus();
      field.select();
    } finally {
      busy = button.disabled = false;
    }
  });
})();
