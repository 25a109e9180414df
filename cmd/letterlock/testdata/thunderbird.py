#!/usr/bin/env python3
"""Two people, each with Thunderbird at a bridge of their own, on one Dovecot and Postfix.

usage: thunderbird.py HARNESS LETTERLOCK OUT
HARNESS is the folder with tb.py and upstream.py, LETTERLOCK the built binary,
OUT a new folder for state, logs and screenshots. Prints PASS or FAIL a check;
the exit code is 0 only if all passed.
"""
import email, email.policy, hashlib, imaplib, inspect, json, os, re, shutil, signal, smtplib, subprocess, sys, tempfile, time, traceback
from email.message import EmailMessage

HARNESS, BINARY, OUT = (os.path.abspath(a) for a in sys.argv[1:4])
sys.path.insert(0, HARNESS)
import tb as harness

CANARY = "canary" + hashlib.sha256(OUT.encode()).hexdigest()[:12]
USERS = {"alice@example.test": "alice-pw-1", "bob@example.test": "bob-pw-2", "carol@example.test": "carol-pw-3"}
RESULTS = []


def ok(cond, what):
    if not cond:
        raise AssertionError(what)


def eq(got, want, what):
    ok(got == want, f"{what}: got {got!r}, want {want!r}")


def sha(b):
    return hashlib.sha256(b).hexdigest()


SLOW = 4  # times as long as what is asked here takes where nothing else runs


def patient(cls):
    """A machine that has much else to do has time, whatever the harness would give it."""
    for name in ("launch", "call", "wait_sync", "wait", "open", "source", "send", "draft", "search", "delete", "move"):
        f = getattr(cls, name)
        usual = inspect.signature(f).parameters["timeout"].default
        setattr(cls, name, lambda *a, _f=f, timeout=usual, **k: _f(*a, timeout=SLOW * timeout, **k))


def until(fn, what, seconds=120):
    end = time.monotonic() + seconds
    while True:
        v = fn()
        if v:
            return v
        ok(time.monotonic() < end, f"{what} not within {seconds} s")
        time.sleep(0.3)


class Bridge:
    """One `letterlock serve` with its own state."""

    def __init__(self, name, config):
        self.dir = os.path.join(OUT, name)
        os.makedirs(self.dir, mode=0o700)
        self.key = os.path.join(self.dir, "unlock.key")
        with open(self.key, "w") as f:
            f.write(os.urandom(32).hex() + "\n")
        os.chmod(self.key, 0o600)
        self.config = os.path.join(self.dir, "letterlock.toml")
        with open(self.config, "w") as f:
            f.write(f'state_dir = "{self.dir}/state"\nunlock = "key-file:{self.key}"\n' + config + '\n[log]\nlevel = "debug"\n')
        os.makedirs(os.path.join(self.dir, "tmp"))
        self.env = {**os.environ, "LETTERLOCK_CONFIG": self.config, "TMPDIR": os.path.join(self.dir, "tmp")}
        self.proc, self.ready = None, {}

    def run(self, *args, data=None):
        p = subprocess.run([BINARY, *args], env=self.env, input=data, capture_output=True, timeout=240)
        ok(p.returncode == 0, f"letterlock {' '.join(args)}: exit {p.returncode}: {p.stderr.decode()[-800:]}")
        return p.stdout

    def serve(self, listeners):
        self.log = open(os.path.join(self.dir, "serve.log"), "ab")
        self.proc = subprocess.Popen([BINARY, "serve", "--json"], env=self.env, stdout=subprocess.PIPE, stderr=self.log,
                                     stdin=subprocess.DEVNULL)
        while len(self.ready) < listeners:
            line = self.proc.stdout.readline()
            ok(line, f"serve ended: {open(self.log.name).read()[-1500:]}")
            r = json.loads(line)
            host, port = r["listen"].rsplit(":", 1)
            self.ready[r["protocol"]] = (host, int(port))

    def stop(self):
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            self.proc.wait(120)
        return self.proc.returncode if self.proc else 0


class Scene:
    def __init__(self):
        self.bridges, self.tbs = {}, {}
        self.blob = os.urandom(150_000)
        self.file = os.path.join(OUT, f"{CANARY}-report.bin")
        open(self.file, "wb").write(self.blob)
        self.big = os.path.join(OUT, "big.bin")
        open(self.big, "wb").write(os.urandom(20 << 20))

    # ---- what runs
    def upstream(self):
        users = [x for u, p in USERS.items() for x in ("--user", f"{u}:{p}")]
        p = subprocess.run([sys.executable, f"{HARNESS}/upstream.py", "start", "--dir", f"{OUT}/up", *users], capture_output=True, timeout=400)
        ok(p.returncode == 0, p.stderr.decode()[-1500:])
        self.up = json.loads(p.stdout)

    def start_bridges(self):
        kd = Bridge("keydir", '[keydir]\nlisten = "127.0.0.1:0"\ndomains = ["example.test"]\n')
        self.bridges["keydir"] = kd
        kd.serve(1)
        host, port = list(kd.ready.values())[0]
        for who in ("alice", "bob"):
            addr = f"{who}@example.test"
            pw = os.path.join(OUT, f"{who}.pw")
            open(pw, "w").write(USERS[addr] + "\n")
            os.chmod(pw, 0o600)
            b = Bridge(who, f'''
[[bridge]]
address = "{addr}"
imap = {{ listen = "127.0.0.1:0", upstream = "imap://localhost:{self.up["imap_port"]}" }}
smtp = {{ listen = "127.0.0.1:0", upstream = "submission://localhost:{self.up["smtp_port"]}" }}
upstream_user = "{addr}"
upstream_password = "file:{pw}"
upstream_ca = "{self.up["ca"]}"
[discovery]
sources = ["wkd", "autocrypt"]
wkd_override = {{ "example.test" = "http://{host}:{port}" }}
''')
            self.bridges[who] = b
            b.run("setup", addr)
            cert = os.path.join(OUT, f"{who}.asc")
            open(cert, "wb").write(b.run("key", "export", addr))
            kd.run("keydir", "add", addr, cert)
            b.serve(2)

    def start_thunderbird(self, who):
        b = self.bridges[who]
        addr = f"{who}@example.test"
        a = json.loads(b.run("account", "show", addr, "--json"))
        self.tbs[who] = t = harness.TB(os.path.join(OUT, "tb-" + who))
        t.start(host=b.ready["imap"][0], imap_port=b.ready["imap"][1], smtp_host=b.ready["smtp"][0], smtp_port=b.ready["smtp"][1],
                security="starttls", ca=a["ca"], user=a["user"], email=addr, password=a["password"],
                prefs={**a["thunderbird_prefs"], "mailnews.message_warning_size": 1 << 30})
        t.wait_sync("INBOX", 0, timeout=60)
        return f"Thunderbird {t.st.get('version')}"

    # ---- what the upstream really holds
    def server(self, who, folder):
        u = f"{who}@example.test"
        m = imaplib.IMAP4(self.up["host"], self.up["imap_port"], timeout=60)
        m.login(u, USERS[u])
        out = []
        try:
            if m.select(f'"{folder}"', readonly=True)[0] != "OK":
                return out
            for uid in m.uid("search", None, "ALL")[1][0].split():
                d = m.uid("fetch", uid, "(FLAGS BODY.PEEK[])")[1]
                flags = (d[0][0] + (d[1] if isinstance(d[1], bytes) else b"")).decode()
                out.append((flags, d[0][1]))
        finally:
            m.logout()
        return out

    # ---- the scenario
    def write(self):
        self.s1 = f"Garden plans {CANARY}"
        self.tbs["alice"].send("bob@example.test", self.s1, f"Grüße Bob, the gate is green. {CANARY}-body\n", [self.file])
        raw = until(lambda: self.server("bob", "INBOX"), "mail in Bob's upstream store")[-1][1]
        ok(b"multipart/encrypted" in raw and CANARY.encode() not in raw, "stored message is not ciphertext")
        eq(str(email.message_from_bytes(raw, policy=email.policy.default)["Subject"]), "[...]", "outer subject")

    def receive(self):
        t = self.tbs["bob"]
        r = t.wait("INBOX", {"subject": self.s1}, timeout=60)
        m = t.open("INBOX", {"subject": self.s1})
        ok(f"{CANARY}-body" in m["body"] and "Grüße" in m["body"], repr(m["body"]))
        eq([(x["name"], x["sha256"]) for x in m["attachments"]], [(f"{CANARY}-report.bin", sha(self.blob))], "attachment")
        until(lambda: any("letterlocksigned" in k.lower() for k in t.call("tags", "INBOX")[-1]["keys"]), "keywords")
        t.screenshot(os.path.join(OUT, "shots", "bob-received.png"))
        return f"row {r['size']} bytes"

    def tags(self):
        row = [x for x in self.tbs["bob"].call("tags", "INBOX") if x["subject"] == self.s1][0]
        ok({"$letterlockencrypted", "$letterlocksigned"} <= {k.lower() for k in row["keys"]}, str(row))
        ok(len(row["tags"]) >= 2, f"tags without names: {row}")
        return ", ".join(row["tags"])

    def sent(self):
        t = self.tbs["alice"]
        t.wait("Sent", {"subject": self.s1}, timeout=40)
        m = t.open("Sent", {"subject": self.s1})
        ok(f"{CANARY}-body" in m["body"], repr(m["body"]))
        raw = self.server("alice", "Sent")[-1][1]
        ok(CANARY.encode() not in raw and b"multipart/encrypted" in raw, "Sent copy is not sealed")

    def reply(self):
        r = self.tbs["bob"].call("reply", "INBOX", {"subject": self.s1}, {"body": f"Thank you! {CANARY}-reply\n"}, 240000, timeout=120)
        t = self.tbs["alice"]
        eq(r["subject"], "Re: " + self.s1, "subject of the reply")
        t.wait("INBOX", {"subject": self.s1}, timeout=60)  # the harness sees subjects without Re:
        m = t.open("INBOX", {"subject": self.s1})
        ok(f"{CANARY}-reply" in m["body"], repr(m["body"]))
        raw = self.server("alice", "INBOX")[-1][1]
        ok(b"multipart/encrypted" in raw and CANARY.encode() not in raw, "reply is not ciphertext")
        t.screenshot(os.path.join(OUT, "shots", "alice-reply.png"))

    def forward_refused(self):
        """Forwarding a decrypted mail to somebody without a certificate is not sent in clear."""
        n = len(self.server("carol", "INBOX"))
        try:
            self.tbs["bob"].call("reply", "INBOX", {"subject": self.s1}, {"body": "fyi", "forward": True, "to": "carol@example.test"}, 120000, timeout=90)
        except harness.TBError as e:
            ok("carol" in str(e) or "certificate" in str(e) or "encrypt" in str(e), str(e))
            eq(len(self.server("carol", "INBOX")), n, "mails at Carol")
            return str(e)[:160]
        raise AssertionError("the forward went out")

    def clear(self):
        """Carol has no certificate: prefer sends in clear, unchanged."""
        self.tbs["alice"].send("carol@example.test", "Hello Carol", "in the open\n")
        raw = until(lambda: self.server("carol", "INBOX"), "mail at Carol")[-1][1]
        ok(b"in the open" in raw and b"Letterlock-" not in raw and b"Autocrypt:" in raw, raw[:2000].decode("latin-1"))

    def plain_in(self):
        m = EmailMessage()
        m["From"], m["To"], m["Subject"] = "carol@example.test", "alice@example.test", "plain from Carol"
        m["Message-ID"], m["Date"] = "<plain.1@example.test>", email.utils.localtime()
        m["Letterlock-Status"] = "encrypted; signature=valid; identity=confirmed"
        m.set_content("nothing hidden here, needle-plain\n")
        with smtplib.SMTP(self.up["host"], self.up["smtp_port"], timeout=60) as s:
            s.login("carol@example.test", USERS["carol@example.test"])
            s.send_message(m)
        t = self.tbs["alice"]
        t.wait("INBOX", {"messageId": "<plain.1@example.test>"}, timeout=40)
        got = t.open("INBOX", {"messageId": "<plain.1@example.test>"})
        ok("needle-plain" in got["body"], repr(got["body"]))
        src = t.source("INBOX", {"messageId": "<plain.1@example.test>"})
        ok(b"letterlock-status" not in src.lower(), "imitated status header was shown")
        ok(not [k for k in t.call("tags", "INBOX") if k["subject"] == "plain from Carol" and "letterlock" in " ".join(k["keys"]).lower()], "keywords on plain mail")

    def draft(self):
        t = self.tbs["alice"]
        t.draft("bob@example.test", f"Draft {CANARY}", f"unfinished {CANARY}-draft\n")
        t.wait("Drafts", {"subject": f"Draft {CANARY}"}, timeout=40)
        m = t.open("Drafts", {"subject": f"Draft {CANARY}"})
        ok(f"{CANARY}-draft" in m["body"], repr(m["body"]))
        flags, raw = self.server("alice", "Drafts")[-1]
        ok("\\Draft" in flags and CANARY.encode() not in raw, flags)

    def search(self):
        t = self.tbs["bob"]
        for terms, want in (([["Body", "Contains", f"{CANARY}-body"]], [self.s1]), ([["Subject", "Contains", "Garden plans"]], [self.s1]),
                            ([["Sender", "Contains", "alice"], ["Body", "Contains", "gate is green"]], [self.s1]),
                            ([["Body", "Contains", "no-such-word"]], [])):
            eq([h for h in t.search("INBOX", terms)["hits"] if CANARY in h], want, f"search {terms}")

    def move(self):
        t = self.tbs["bob"]
        t.call("createFolder", "Projects", 80000)
        t.move("INBOX", {"subject": self.s1}, "Projects")
        t.wait("Projects", {"subject": self.s1}, timeout=30)
        m = t.open("Projects", {"subject": self.s1})
        ok(f"{CANARY}-body" in m["body"], repr(m["body"]))
        t.move("Projects", {"subject": self.s1}, "Archive", move=False)
        until(lambda: self.server("bob", "Archive"), "copy in Archive")
        t.delete("Projects", {"subject": self.s1})
        until(lambda: self.server("bob", "Trash"), "deleted mail in Trash")
        t.wait("Trash", {"subject": self.s1}, timeout=30)

    def large(self):
        t0 = time.monotonic()
        self.tbs["bob"].send("alice@example.test", f"Big {CANARY}", f"20 MB {CANARY}-big\n", [self.big], timeout=240)
        t1 = time.monotonic()
        t = self.tbs["alice"]
        t.wait("INBOX", {"subject": f"Big {CANARY}"}, timeout=180)
        m = t.open("INBOX", {"subject": f"Big {CANARY}"}, timeout=180)
        eq([(x["bytes"], x["sha256"]) for x in m["attachments"]], [(20 << 20, sha(open(self.big, "rb").read()))], "20 MB attachment")
        return f"sent in {t1 - t0:.1f} s, read after {time.monotonic() - t1:.1f} s"

    def restart(self):
        t = self.tbs["alice"]
        n = len(t.list("INBOX"))
        t.restart()
        t.wait_sync("INBOX", n, timeout=60)
        eq(t.call("dialogs"), [], "dialogs")

    def looks(self):
        for who, t in self.tbs.items():
            t.call("showFolder", "INBOX")
            time.sleep(1)
            t.screenshot(os.path.join(OUT, "shots", f"{who}-inbox.png"))

    def console(self):  # the refused forward is the one failure that is meant
        bad = [x["text"][:150] for t in self.tbs.values() for x in t.console()
               if x["level"] == "error" and re.search(r"imap|smtp|mailnews\.|MsgCompose|SSL|SEC_ERROR", x["text"] + x["src"], re.I)
               and not re.search(r"Region|telemetry|settings|blocklist|carol@example|Message sending failed", x["text"], re.I)]
        eq(bad, [], "Thunderbird's error console")

    def canary(self):
        """Nothing that Alice or Bob wrote lies in clear upstream, in our state, logs or temporary files."""
        hits, files = [], 0
        for top in [f"{OUT}/up"] + [b.dir for b in self.bridges.values()]:
            for base, _, names in os.walk(top):
                for n in names:
                    p = os.path.join(base, n)
                    if not os.path.isfile(p):
                        continue
                    files += 1
                    d = open(p, "rb").read()
                    if CANARY.encode() in d or "the gate is green".encode() in d:
                        hits.append(p)
        eq(hits, [], "files with plaintext")
        return f"{files} files searched"

    def end(self):
        for t in self.tbs.values():
            t.stop()
        codes = {n: b.stop() for n, b in self.bridges.items()}
        if hasattr(self, "up"):
            subprocess.run([sys.executable, f"{HARNESS}/upstream.py", "stop", "--dir", f"{OUT}/up"], capture_output=True, timeout=60)
        eq({n: c for n, c in codes.items() if c}, {}, "exit codes of serve")


def with_own_functions():
    """The harness's functions and ours in one file, where its class looks for it."""
    d = tempfile.mkdtemp(dir=OUT)
    with open(os.path.join(d, "tb_chrome.js"), "w", encoding="utf-8") as f:
        for p in (os.path.join(HARNESS, "tb_chrome.js"), os.path.join(os.path.dirname(os.path.abspath(__file__)), "thunderbird.js")):
            f.write(open(p, encoding="utf-8").read() + "\n")
    harness.HERE = d


def check(name, fn, scene):
    t = time.monotonic()
    try:
        verdict, note = "PASS", fn() or ""
    except Exception as e:
        verdict, note = "FAIL", f"{type(e).__name__}: {e}"
        with open(os.path.join(OUT, "failures.log"), "a") as f:
            f.write(f"== {name}\n{traceback.format_exc()}\n")
        for who, b in scene.tbs.items():
            try:
                b.screenshot(os.path.join(OUT, "shots", f"FAIL-{name.replace(' ', '-')}-{who}.png"))
            except Exception:
                pass
    RESULTS.append((name, verdict))
    print(f"{verdict:4} {time.monotonic() - t:7.2f}s  {name:28} {' '.join(str(note).split())[:200]}", flush=True)
    return verdict == "PASS"


def main():
    os.makedirs(os.path.join(OUT, "shots"), exist_ok=True)
    os.chmod(OUT, 0o755)
    with_own_functions()
    patient(harness.TB)
    s = Scene()
    try:
        if all(check(n, f, s) for n, f in (("upstream", s.upstream), ("bridges", s.start_bridges),
                                          ("Alice's Thunderbird", lambda: s.start_thunderbird("alice")),
                                          ("Bob's Thunderbird", lambda: s.start_thunderbird("bob")),
                                          ("write with attachment", s.write))):
            for n, f in (("receive and read", s.receive), ("keywords as tags", s.tags), ("copy in Sent", s.sent), ("reply", s.reply),
                         ("forward never in clear", s.forward_refused), ("clear where no certificate", s.clear), ("plain mail in", s.plain_in),
                         ("draft", s.draft), ("search", s.search), ("20 MB attachment", s.large), ("how it looks", s.looks),
                         ("move, copy, delete", s.move), ("restart", s.restart), ("error console", s.console)):
                check(n, f, s)
    finally:
        check("stop everything", s.end, s)
        check("no plaintext anywhere", s.canary, s)
    failed = [n for n, v in RESULTS if v == "FAIL"]
    print(f"{len(RESULTS) - len(failed)} passed, {len(failed)} failed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
