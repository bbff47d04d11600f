// A browser and its pages: node browse.mjs CHROMIUM SETTINGS. The settings are JSON: `page` (the address of the page),
// `gateway`, `key_hash` (of its certificate), `hosts` (names that point to the loopback address). Each line of output is a step
// that the test takes part in, and is answered by a line; the last line has what was seen.
import { createInterface } from 'node:readline/promises';
import { chromium } from 'playwright-core';

const [executablePath, text] = process.argv.slice(2);
const settings = JSON.parse(text);
const PATIENCE_MS = 20_000;
const OTHERS = 10;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const browser = await chromium.launch({
  executablePath,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
    '--disable-features=LocalNetworkAccessChecks', // newer browsers ask their user first; here the gateway is tried
    `--ignore-certificate-errors-spki-list=${settings.key_hash}`,
    `--host-resolver-rules=${settings.hosts.map((host) => `MAP ${host} 127.0.0.1`).join(', ')}`,
  ],
});
const context = await browser.newContext();
context.setDefaultTimeout(PATIENCE_MS);

// Ask the test to do something, and wait until it has.
async function step(name) {
  console.log(name);
  await lines.next();
}

// Open the page, for an execution that there is if it is given. `connections`: those that its calls of the gateway use.
async function open({ execution = '', gateway = settings.gateway, at = settings.page } = {}) {
  const page = await context.newPage();
  const connections = new Set();
  const session = await context.newCDPSession(page);
  session.on('Network.responseReceived', ({ response }) => {
    if (response.url.startsWith(gateway)) connections.add(`${response.protocol} ${response.connectionId}`);
  });
  await session.send('Network.enable');
  await page.goto(`${at}?${new URLSearchParams({ gateway, execution })}`);
  return { page, connections };
}

async function start(page, workflow, input = '{}') {
  await page.fill('[name=workflow]', workflow);
  await page.fill('[name=input]', input);
  await page.click('text=Start');
}

async function answer(page, result) {
  await page.fill('[name=result]', result);
  await page.click('text=Answer');
}

const changes = (page) => page.locator('#changes li').allTextContents();
const comes = (page, change, count = 1) => page.locator('#changes li', { hasText: change }).nth(count - 1).waitFor();
const problems = async (page) => {
  await page.locator('#problems li').first().waitFor();
  return page.locator('#problems li').allTextContents();
};
async function ended(page) {
  await page.locator('#state', { hasText: 'SUCCESS' }).waitFor();
  return page.textContent('#state');
}

// A page starts; others watch what it has started; it completes; all of them see the end.
async function together() {
  const first = await open();
  await start(first.page, 'asks', '{"count": 20}');
  await comes(first.page, 'attemptMoved');
  const execution = await first.page.textContent('#state');
  const others = await Promise.all(Array.from({ length: OTHERS }, () => open({ execution })));
  for (const { page } of others) await comes(page, 'attemptMoved');
  await answer(first.page, '{"said": "yes"}');
  const states = [];
  for (const { page } of [first, ...others]) states.push(await ended(page));
  const seen = [];
  for (const { page } of [first, ...others]) seen.push(await changes(page));
  const connections = [...new Set([first, ...others].flatMap((each) => [...each.connections]))];
  await Promise.all([first, ...others].map(({ page }) => page.close()));
  return { execution, states, changes: seen, connections };
}

// A page stops watching, another one is closed.
async function leaving() {
  const { page } = await open();
  await start(page, 'asks', '{"count": 1}');
  await comes(page, 'attemptMoved');
  const execution = await page.textContent('#state');
  const other = await open({ execution });
  await comes(other.page, 'attemptMoved');
  await step(`watched ${execution}`);
  await page.click('text=Stop watching');
  const told = await problems(page);
  await step(`stopped ${execution}`);
  await other.page.close();
  await step(`closed ${execution}`);
  return { told };
}

// The gateway is restarted while a page watches.
async function restart() {
  const { page } = await open();
  await start(page, 'asks', '{"count": 1}');
  await comes(page, 'attemptMoved');
  await step('restart');
  await answer(page, '1');
  return { state: await ended(page), changes: await changes(page), problems: await page.locator('#problems li').count() };
}

// What is wrong with an input is on the page.
async function refused() {
  const { page } = await open();
  await start(page, '', '[1');
  return { problems: await problems(page) };
}

// In the page, what a script of it sees of a request.
function ask(page, url, options) {
  return page.evaluate(async ([url, options]) => {
    try {
      const answer = await fetch(url, options);
      return { type: answer.type, status: answer.status, text: await answer.text() };
    } catch (error) {
      return { error: String(error) };
    }
  }, [url, options]);
}

const METHOD = '/dalsegno.v1.ExecutionService/StartExecution';
const JSON_POST = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"workflow": "asks"}' };
const PLAIN_POST = { method: 'POST', mode: 'no-cors', body: '{"workflow": "asks"}' };
const READ = '/dalsegno.v1.SystemService/GetServerInfo?encoding=json&message=%7B%7D';

// A page whose name comes to point to the gateway: the browser takes it for the same origin.
async function rebound() {
  const page = await context.newPage();
  const { port } = new URL(settings.plain);
  const origin = `http://${settings.hosts[0]}:${port}`;
  await page.route(`${origin}/`, (route) => route.fulfill({ contentType: 'text/html', body: '<title>before</title>' }));
  await page.goto(`${origin}/`);
  return { post: await ask(page, METHOD, JSON_POST), read: await ask(page, READ) };
}

// A page of another origin: requests that the browser asks about first, that it sends at once, and what a tag tells of them.
async function foreign() {
  const page = await context.newPage();
  await page.goto(settings.page.replace('localhost', settings.hosts[1]));
  const { gateway } = settings;
  const looked = (name) => {
    const message = encodeURIComponent(JSON.stringify({ name }));
    const url = `${gateway}/dalsegno.v1.WorkflowService/GetWorkflow?encoding=json&message=${message}`;
    return page.evaluate((data) => new Promise((resolve) => {
      const tag = Object.assign(document.createElement('object'), { data });
      tag.onload = () => resolve('loaded');
      tag.onerror = () => resolve('failed');
      document.body.append(tag);
    }), url);
  };
  return {
    post: await ask(page, gateway + METHOD, JSON_POST),
    plain: await ask(page, gateway + METHOD, PLAIN_POST),
    read: await ask(page, gateway + READ),
    there: await looked('asks'),
    missing: await looked('none'),
  };
}

const seen = {};
for (const scenario of [together, leaving, restart, refused, rebound, foreign]) {
  const began = Date.now();
  try {
    seen[scenario.name] = await scenario();
  } catch (error) {
    seen[scenario.name] = { failed: String(error?.stack ?? error) };
  }
  seen[scenario.name].ms = Date.now() - began;
}
await browser.close();
console.log(JSON.stringify(seen));
process.exit(0);
