// imapflow as a client: node imapflow.js MODULES JOB, where JOB is JSON with what, host,
// port, user, password, mailbox and path.
const { createRequire } = require('node:module');
const fs = require('node:fs');
const [modules, job] = process.argv.slice(2);
const { ImapFlow } = createRequire(modules + '/x.js')('imapflow');
const { what, host, port, user, password, mailbox, path } = JSON.parse(job);

function must(ok, ...text) {
  if (!ok) throw new Error(text.join(' '));
}

// Every message at once, then each as an app downloads it, and a part alone.
async function fetch(c) {
  await c.mailboxOpen(mailbox);
  const all = new Map();
  for await (const m of c.fetch('1:*', { uid: true, flags: true, envelope: true, bodyStructure: true, size: true, source: true, bodyParts: ['TEXT'] })) {
    must(m.size === m.source.length, 'UID', m.uid, 'has', m.source.length, 'bytes, RFC822.SIZE', m.size);
    must(m.source.toString('latin1').endsWith(m.bodyParts.get('text').toString('latin1')), 'UID', m.uid, 'ends otherwise than its text');
    must(m.envelope.subject.startsWith('Grüße'), 'UID', m.uid, 'is', m.envelope.subject);
    all.set(m.uid, m.source);
  }
  for (const [uid, source] of all) {
    const pieces = [];
    for await (const p of (await c.download(uid, undefined, { uid: true, chunkSize: 65536 })).content) pieces.push(p);
    must(Buffer.concat(pieces).equals(source), 'UID', uid, 'in pieces is another');
    fs.writeFileSync(path + '/' + String(uid).padStart(8, '0'), source);
  }
}

// Tells on stdout what comes and goes while it idles, until one has gone.
async function watch(c) {
  await c.mailboxOpen(mailbox);
  const gone = new Promise((resolve) => c.on('expunge', (e) => {
    must(e.vanished && e.uid, 'not told by VANISHED');
    console.log('gone', e.uid);
    resolve();
  }));
  c.on('exists', async () => {
    const m = await c.fetchOne('*', { uid: true, envelope: true, flags: true, source: true });
    console.log('came', m.uid, m.envelope.subject, [...m.flags].filter((f) => f.startsWith('$')).join(), m.source.includes('Hello Alice'));
    c.idle();
  });
  console.log('watching');
  c.idle();
  await gone;
}

(async () => {
  const c = new ImapFlow({ host, port: +port, auth: { user, pass: password }, doSTARTTLS: false, qresync: true, logger: false });
  await c.connect();
  must(c.enabled.has('QRESYNC'), 'no QRESYNC');
  if (what === 'upload') await c.append(mailbox, fs.readFileSync(path), ['\\Seen']);
  else await { fetch, watch }[what](c);
  await c.logout();
})().catch((e) => {
  console.error(e.stack, e.responseText);
  process.exit(1);
});
