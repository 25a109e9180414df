// Added to the harness's own functions: what a person does that it has no name for.
Object.assign(T, {
  async reply(name, q, o, ms) {   // the Reply button; o: {body, attachments}
    const f = folder(name), h = find(f, q), uri = f.getUriForMsg(h);
    const p = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
    p.composeFields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
    p.identity = MailServices.accounts.getFirstIdentityForServer(imap());
    p.type = o.forward ? Ci.nsIMsgCompType.ForwardAsAttachment : Ci.nsIMsgCompType.ReplyToSender;
    p.format = Ci.nsIMsgCompFormat.PlainText;
    p.originalMsgURI = uri;
    p.origMsgHdr = h;
    const before = new Set([...Services.wm.getEnumerator("msgcompose")]);
    MailServices.compose.OpenComposeWindowWithParams(null, p);
    const w = await until(() => [...Services.wm.getEnumerator("msgcompose")].find(x => !before.has(x) && x.gMsgCompose && x.gMsgCompose.editor && !x.closed), "compose window", ms);
    await until(() => w.document.readyState == "complete" && w.document.getElementById("msgSubject").value, "compose window filled in", ms);
    if (o.to) { w.gMsgCompose.compFields.to = o.to; w.CompFields2Recipients(w.gMsgCompose.compFields); }
    await until(() => w.document.querySelectorAll("#toAddrContainer mail-address-pill").length, "recipient pill", ms);
    await sleep(1000);
    const ed = w.GetCurrentEditor();
    ed.beginningOfDocument();
    ed.insertText(o.body);
    const subject = w.document.getElementById("msgSubject").value;
    const quoted = ed.rootElement.innerText;
    w.goDoCommand("cmd_sendNow");
    try {
      await until(async () => {
        if (w.closed) return true;
        if (!dialogs().length) return false;
        await sleep(700);
        const d = dialogs();
        if (d.length) throw Object.assign(new Error("send stopped by a dialog: " + d.map(x => x.title + ": " + x.text).join("; ")), { fatal: true });
        return false;
      }, "reply sent; dialogs " + JSON.stringify(dialogs()), ms);
    } catch (e) {
      for (const d of Services.wm.getEnumerator(null)) if (/commonDialog|prompt/i.test(d.document.documentURI)) d.close();
      await sleep(500);
      if (!w.closed) { w.SetContentAndBodyAsUnmodified(); w.close(); }
      throw e;
    }
    return { subject, quoted };
  },
  async tags(name) {   // the tags that the thread pane shows, by message
    const out = [];
    for (const h of folder(name).messages) {
      const keys = h.getStringProperty("keywords").split(" ").filter(Boolean);
      const named = [];
      for (const k of keys) { try { named.push(MailServices.tags.getTagForKey(k)); } catch (e) {} }
      out.push({ subject: h.mime2DecodedSubject, keys, tags: named.filter(Boolean) });
    }
    return out;
  },
});
