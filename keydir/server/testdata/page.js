// Visits our pages in Chromium as a person would, and tells what it saw, as JSON.
// node page.js MODULES CHROMIUM FOLDER: FOLDER has job.json with base, steps, width,
// height, dark, script, save (a prefix of screenshots; "" for none).
"use strict";
const { chromium } = require(process.argv[2] + "/playwright-core");
const fs = require("fs"), path = require("path");
const folder = process.argv[4];
const job = JSON.parse(fs.readFileSync(path.join(folder, "job.json")));
const told = { requests: [], console: [], popups: 0, pages: [], files: {}, cookies: 0 };

// link waits until a mail with a link came.
async function link(n) {
  const file = path.join(folder, "mail-" + n);
  for (let i = 0; i < 300; i++) {
    if (fs.existsSync(file)) return fs.readFileSync(file, "utf8");
    await new Promise(r => setTimeout(r, 100));
  }
  throw new Error("mail " + n + " didn't come");
}

(async () => {
  const browser = await chromium.launch({
    executablePath: process.argv[3], headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"],
  });
  try {
    const context = await browser.newContext({
      viewport: { width: job.width, height: job.height }, colorScheme: job.dark ? "dark" : "light", deviceScaleFactor: 1,
      acceptDownloads: true, locale: "en-GB", timezoneId: "UTC", javaScriptEnabled: job.script,
    });
    context.on("request", r => told.requests.push(r.url().slice(0, 200)));
    context.on("page", () => told.popups++);
    const page = await context.newPage();
    told.popups = 0;
    page.on("console", m => told.console.push(m.type() + ": " + m.text().slice(0, 300)));
    page.on("pageerror", e => told.console.push("error: " + e.message));
    page.on("dialog", d => { told.console.push("dialog: " + d.message()); d.dismiss(); });
    let status = 0;
    page.on("response", r => { if (r.request().isNavigationRequest()) status = r.status(); });

    const see = async () => told.pages.push(await page.evaluate(s => {
      const e = document.activeElement, body = getComputedStyle(document.body);
      return {
        status: s, url: location.href, title: document.title, text: document.body.innerText,
        wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
        background: body.backgroundColor, color: body.color,
        focus: e && e.id, outline: e ? getComputedStyle(e).outlineStyle : "",
        small: [...document.querySelectorAll("button,input:not([type=hidden]),textarea")].filter(x => x.getBoundingClientRect().height < 36).length,
        nameless: [...document.querySelectorAll("input:not([type=hidden]),textarea")].filter(x => !x.labels || !x.labels.length).length,
      };
    }, status));
    const click = async what => { await Promise.all([page.waitForNavigation({ timeout: 60000 }), what.click()]); await see(); };
    for (const s of job.steps) {
      if (s.go) { await page.goto(job.base + s.go); await see(); }
      if (s.mail) { await page.goto(await link(s.mail)); await see(); }
      if (s.fill) await page.getByLabel(s.fill, { exact: true }).fill(s.text);
      if (s.file) await page.getByLabel(s.file, { exact: true }).setInputFiles(path.join(folder, s.text));
      if (s.button) await click(page.getByRole("button", { name: s.button, exact: true }));
      if (s.link) await click(page.getByRole("link", { name: s.link, exact: true }));
      if (s.tabs) { for (let i = 0; i < s.tabs; i++) await page.keyboard.press("Tab"); await see(); }
      if (s.type) { await page.keyboard.type(s.type); await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]); await see(); }
      if (s.open) for (const d of await page.locator("summary").all()) await d.click();
      if (s.download) {
        const [d] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: s.download }).click()]);
        const name = "saved-" + Object.keys(told.files).length;
        await d.saveAs(path.join(folder, name));
        told.files[d.suggestedFilename()] = name;
      }
      if (s.shot && job.save) await page.screenshot({ path: job.save + "-" + s.shot + ".png", fullPage: true });
    }
    told.cookies = (await context.cookies()).length;
  } finally {
    await browser.close();
  }
})().then(() => fs.writeFileSync(path.join(folder, "told.json"), JSON.stringify(told)), e => { console.error(e); process.exit(1); });
