// What web apps do with a key directory, by the clients that openpgp.js has for
// HKP and WKD, and by VKS: in Node, and in a page of another origin in Chromium.
// node directory.js MODULES CHROMIUM JOB, where CHROMIUM is "" for Node; prints JSON.
"use strict";
const fs = require("fs"), http = require("http"), path = require("path");
const [modules, chromium, job] = [process.argv[2], process.argv[3], JSON.parse(process.argv[4])];

// app does it; nothing outside of it is known to it.
async function app(HKP, WKD, openpgp, job) {
  const told = {};
  const is = async key => (await key).getFingerprint().toUpperCase();
  const tell = async (name, f) => { try { told[name] = await f(); } catch (e) { told[name] = "error: " + e.message; } };
  const hkp = new HKP(job.server), wkd = new WKD();
  hkp._fetch = wkd._fetch = (...a) => fetch(...a); // a method of theirs would be called with the wrong this
  const armored = async o => { const a = await hkp.lookup(o); return a ? is(openpgp.readKey({ armoredKey: a })) : "none"; };
  await tell("hkp by address", () => armored({ query: job.joe }));
  await tell("hkp by key ID", () => armored({ keyId: job.fingerprint.slice(24) }));
  await tell("hkp by fingerprint", () => armored({ keyId: job.fingerprint }));
  await tell("hkp nobody", () => armored({ query: job.nobody }));
  const found = async email => is(openpgp.readKey({ binaryKey: await wkd.lookup({ email }) }));
  await tell("wkd advanced", () => found(job.joe));
  await tell("wkd direct", () => found(job.ann));
  await tell("wkd nobody", () => found(job.nobody));
  await tell("hkp upload", async () => (await hkp.upload(job.certificate)).status);
  const post = async (what, body) => {
    const r = await fetch(job.server + "/vks/v1/" + what, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    return { status: r.status, body: await r.json() };
  };
  await tell("vks upload", async () => {
    const up = await post("upload", { keytext: job.certificate });
    told["vks token"] = typeof up.body.token;
    const asked = await post("request-verify", { token: up.body.token, addresses: [job.new] });
    return `${up.status} ${up.body.status[job.new]}, ${asked.status} ${asked.body.status[job.new]}`;
  });
  await tell("vks wrong", async () => (await post("upload", { keytext: "none" })).status);
  await tell("vks nobody", async () => (await fetch(job.server + "/vks/v1/by-email/" + encodeURIComponent(job.nobody))).status);
  return told;
}

const file = name => path.join(modules, name);
async function inChromium() {
  const browser = await require(file("playwright-core")).chromium.launch({
    executablePath: chromium, headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"],
  });
  try {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    const page = await context.newPage();
    // From a real server: what playwright answers by itself is not asked for by
    // the rules of CORS.
    const origin = http.createServer((_, r) => r.setHeader("Content-Type", "text/html").end("<!doctype html><title>app</title>"));
    await new Promise(done => origin.listen(0, "127.0.0.1", done));
    origin.unref();
    await page.goto(`http://127.0.0.1:${origin.address().port}/`);
    await page.addScriptTag({ path: file("openpgp/dist/openpgp.min.js") });
    for (const c of ["hkp", "wkd"]) {
      const source = fs.readFileSync(file(`@openpgp/${c}-client/src/${c}.js`), "utf8");
      await page.addScriptTag({ content: `(() => { const module = {};\n${source}\nwindow.${c.toUpperCase()} = module.exports; })()` });
    }
    return await page.evaluate(`(${app})(HKP, WKD, openpgp, ${JSON.stringify(job)})`);
  } finally {
    await browser.close();
  }
}
const inNode = () => app(require(file("@openpgp/hkp-client")), require(file("@openpgp/wkd-client")), require(file("openpgp")), job);

(chromium ? inChromium() : inNode()).then(told => { console.log(JSON.stringify(told)); }, e => { console.error(e); process.exit(1); });
