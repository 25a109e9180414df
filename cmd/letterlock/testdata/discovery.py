#!/usr/bin/env python3
"""Somebody writes with Thunderbird to people whose certificates it has to find.

usage: discovery.py HARNESS JOB OUT
HARNESS is the folder with tb.py, JOB is JSON: imap and smtp (ports), user, password,
ca, server; OUT a folder for state, logs and screenshots. Prints what was seen, as
JSON.
"""
import json, os, sys

HARNESS, JOB, OUT = os.path.abspath(sys.argv[1]), json.loads(sys.argv[2]), os.path.abspath(sys.argv[3])
sys.path.insert(0, HARNESS)
import tb as harness

WKD = ["joe@example.org", "ann@example.net", "nobody@example.org"]


def main():
    lib = os.path.join(OUT, "lib")
    os.makedirs(lib)
    with open(os.path.join(lib, "tb_chrome.js"), "w") as f:
        for p in (os.path.join(HARNESS, "tb_chrome.js"), os.path.join(os.path.dirname(os.path.abspath(__file__)), "discovery.js")):
            f.write(open(p, encoding="utf-8").read() + "\n")
    harness.HERE = lib
    t, told = harness.TB(os.path.join(OUT, "tb")), {}

    def look(name):
        t.screenshot(os.path.join(OUT, "shots", name + ".png"))

    def hold(to, subject):
        t.call("compose", {"to": ", ".join(to), "subject": subject, "body": "found\n"}, "hold", 60000, timeout=90)

    try:
        t.start(host="127.0.0.1", imap_port=JOB["imap"], smtp_port=JOB["smtp"], security="none", user=JOB["user"], password=JOB["password"], ca=JOB["ca"],
                prefs={"network.proxy.type": 0, "mail.openpgp.key_assistant.enable": True, "mail.openpgp.keyserver_list": "", "mail.identity.id1.autoEncryptDrafts": False})
        t.wait_sync("INBOX", 0)
        own = t.pgp_key()
        told["own"], told["published"] = own["fpr"], t.call("publish", own["keyId"], "vks://" + JOB["server"])
        t.call("pgpMode", True, True)

        hold(WKD, "all three")
        told["before"] = t.call("assistant")
        look("1-before")
        told["after"] = t.call("discover")
        look("2-discovered")
        told["offers"] = {}
        for address in WKD[:2]:
            told["offers"][address] = t.call("resolve", address)
            look("3-" + address.split("@")[0])
            told["accepted"] = t.call("accept")
        look("4-accepted")
        t.call("leave", True)

        for address, servers in (("kim@example.com", "vks://" + JOB["server"]), ("lee@example.com", "hkps://" + JOB["server"])):
            t.call("setPref", "mail.openpgp.keyserver_list", servers)
            hold([address], "by key server")
            t.call("assistant")
            t.call("discover")
            told["offers"][address] = t.call("resolve", address)
            look("5-" + address.split("@")[0])
            t.call("leave", True)

        t.send(", ".join(WKD[:2]), "found by Thunderbird", "The certificates were found.\n")
        print(json.dumps(told))
    except BaseException:
        try:
            look("FAIL")
        except Exception:
            pass
        raise
    finally:
        t.stop()


main()
