// Opens a page in Chromium as a person would and tells what it saw, as JSON.
// node browser.js MODULES CHROMIUM FOLDER: FOLDER has job.json with page,
// password (each of a list is tried in turn), width, dark, save (a prefix of
// screenshots; "" for none), http (over http instead of from the disk).
"use strict";
const { chromium } = require(process.argv[2] + "/playwright-core");
const fs = require("fs"), path = require("path"), url = require("url");
const folder = process.argv[4];
const job = JSON.parse(fs.readFileSync(path.join(folder, "job.json")));
const told = { requests: [], console: [], popups: 0, statuses: [], files: {}, frame: null };

(async () => {
  const browser = await chromium.launch({
    executablePath: process.argv[3], headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"],
  });
  try {
    const context = await browser.newContext({
      viewport: { width: job.width || 1100, height: job.height || 900 }, colorScheme: job.dark ? "dark" : "light",
      deviceScaleFactor: 1, acceptDownloads: true, locale: "en-GB", timezoneId: "UTC", javaScriptEnabled: !job.noscript,
    });
    context.on("request", r => told.requests.push(r.url().slice(0, 120)));
    context.on("page", () => told.popups++);
    const page = await context.newPage();
    told.popups = 0;
    page.on("console", m => told.console.push(m.type() + ": " + m.text().slice(0, 300)));
    page.on("pageerror", e => told.console.push("error: " + e.message));
    page.on("dialog", d => { told.console.push("dialog: " + d.message()); d.dismiss(); });
    const shot = async name => { if (job.save) await page.screenshot({ path: job.save + "-" + name + ".png", fullPage: true }); };

    // Nothing goes over the network here: the page is answered from the disk.
    await context.route("http://page.example/**", r => r.fulfill({ path: path.join(folder, "message.html"), contentType: "text/html" }));
    await page.goto(job.http ? "http://page.example/message.html" : url.pathToFileURL(path.join(folder, "message.html")).href);
    told.secure = await page.evaluate(() => window.isSecureContext);
    told.before = await page.evaluate(() => document.body.innerText);
    await shot("ask");
    if (job.noscript) return;
    for (const password of job.passwords || []) {
      await page.getByLabel("Password", { exact: true }).fill(password);
      const began = Date.now();
      await page.keyboard.press("Enter");
      await page.waitForFunction(() => !document.getElementById("message").hidden || document.getElementById("status").className === "bad", null, { timeout: 120000 });
      told.took = Date.now() - began;
      const status = page.locator("#status");
      told.statuses.push(await status.count() ? await status.textContent() : "");
      if (await status.count()) await shot("refused");
    }
    told.hidden = await page.evaluate(() => { const f = document.getElementById("form"); return !!f && f.hidden; });
    await page.waitForTimeout(job.wait || 200);
    told.open = !(await page.evaluate(() => document.getElementById("message").hidden));
    told.title = await page.title();
    told.text = await page.evaluate(() => document.body.innerText);
    told.focus = await page.evaluate(() => document.activeElement && document.activeElement.id);
    told.wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
    told.links = await page.$$eval("#links a, #body a", all => all.map(a => a.href));
    const frame = page.frames()[1];
    if (frame) {
      told.frame = { url: frame.url(), sandbox: await page.getAttribute("iframe", "sandbox") };
      // The frame runs no script of its own; the debugger still looks into it.
      const cdp = await context.newCDPSession(frame).catch(() => context.newCDPSession(page));
      const { root } = await cdp.send("DOM.getDocument", { depth: -1, pierce: true });
      told.frame.tree = [];
      const walk = n => {
        told.frame.tree.push(n.nodeName.toLowerCase() + (n.attributes || []).map(a => " " + a).join("").slice(0, 200) + (n.nodeName === "#text" ? " " + n.nodeValue : ""));
        (n.children || []).forEach(walk);
        if (n.contentDocument) walk(n.contentDocument);
      };
      walk(root);
    }
    await shot("open");
    for (const a of await page.locator("#files a").all()) {
      const [download] = await Promise.all([page.waitForEvent("download"), a.click()]);
      const name = "saved-" + Object.keys(told.files).length;
      await download.saveAs(path.join(folder, name));
      told.files[download.suggestedFilename()] = name;
    }
    told.address = page.url().startsWith("file:");
    const buttons = page.locator("#views button");
    if (await buttons.count()) {
      await buttons.nth(1).click();
      told.plain = await page.evaluate(() => document.getElementById("body").innerText);
      await shot("plain");
    }
  } finally {
    await browser.close();
  }
})().then(() => fs.writeFileSync(path.join(folder, "told.json"), JSON.stringify(told)), e => { console.error(e); process.exit(1); });
