// Added to the harness's own functions: what a person does in Thunderbird's OpenPGP
// Key Assistant, by its own buttons.
const button = (in_, id) => [...in_.querySelectorAll("button")].find(b => b.dataset.l10nId == id && !b.closest("[hidden]"));
Object.assign(T, {
  async assistant() {   // opens it in the window that compose(..., "hold") left open
    const w = win3().__tbhCompose;
    w.focus();
    w.showMessageComposeSecurityStatus(false);
    await until(() => w.document.getElementById("keyAssistant").open, "key assistant", 10000);
    await sleep(500);
    return T.keys();
  },
  async keys() {   // what it says of each recipient
    const d = win3().__tbhCompose.document, out = {};
    for (const [list, state] of [["keysListIssues", "issue"], ["keysListValid", "ready"]])
      for (const row of d.querySelectorAll(`#${list} .key-row`)) out[row.querySelector("b").textContent] = [state, !!button(row, "openpgp-key-assistant-issue-resolve-button")].join(" ");
    return out;
  },
  async discover() {   // Discover Public Keys Online
    const d = win3().__tbhCompose.document;
    button(d.getElementById("mainView"), "openpgp-key-assistant-discover-online-button").click();
    await until(() => !d.getElementById("discoverView").hidden, "discovery", 10000);
    await until(() => !d.getElementById("mainView").hidden, "discovery's end", 60000);
    await sleep(300);
    return T.keys();
  },
  async resolve(address) {   // Resolve…: gives the fingerprints that it offers, and where from
    const d = win3().__tbhCompose.document;
    const row = [...d.querySelectorAll("#keysListIssues .key-row")].find(r => r.querySelector("b").textContent == address);
    button(row, "openpgp-key-assistant-issue-resolve-button").click();
    await until(() => !d.getElementById("resolveView").hidden && d.querySelector("#resolveValidKeysList input"), "a key to accept", 10000);
    await sleep(500);
    return [...d.querySelectorAll("#resolveValidKeysList li")].map(li => ({
      fingerprint: li.querySelector(".key-info-block a").textContent.replace(/\s/g, ""),
      from: [...li.querySelectorAll(".comma-separated a")].map(a => a.href), text: li.innerText }));
  },
  async accept() {   // Accept, of the only key
    const d = win3().__tbhCompose.document, keys = d.querySelectorAll("#resolveValidKeysList input");
    if (keys.length != 1) throw new Error(keys.length + " keys to accept");
    keys[0].click();
    d.getElementById("resolveViewAcceptKey").click();
    await until(() => !d.getElementById("mainView").hidden, "the list", 10000);
    await sleep(300);
    return T.keys();
  },
  async leave(close) {
    const w = win3().__tbhCompose;
    await w.gKeyAssistant.close();
    if (close) { w.SetContentAndBodyAsUnmodified(); w.close(); }
    return true;
  },
  async publish(keyId, server) {   // what Publish does in the account's settings, but for the alert that it ends with
    const { EnigmailKeyServer } = ChromeUtils.importESModule("chrome://openpgp/content/modules/keyserver.sys.mjs");
    return EnigmailKeyServer.upload(keyId, server);
  },
  async setPref(name, value) { Services.prefs.setStringPref(name, value); return true; },
});
