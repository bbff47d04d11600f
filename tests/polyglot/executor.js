// An executor: node executor.js ENGINE... It serves the actions of `dalsegno executor-check`, prints "ready" once an engine
// is there, and leaves in order on SIGTERM. It keeps all rules of protos/dalsegno/v1/executor_service.proto.
'use strict';
const { randomUUID } = require('node:crypto');
const { performance } = require('node:perf_hooks');
const { setTimeout: pause } = require('node:timers/promises');
const { credentials, failureOf, grpc, services } = require('./contract');

const SLOTS = 8;
const GRACE_MS = 3000; // how long actions may go on after SIGTERM
const RESULT_BYTES_MAX = 4_000_000;
const ENGINES = process.argv.slice(2);
const SHARE = Math.max(1, Math.floor(SLOTS / ENGINES.length)); // of the slots, for each engine
const SESSION_ID = randomUUID();

const running = new Map(); // by action execution: { delivery, engine, stop }
const outcomes = new Map(); // not acknowledged, by action execution and delivery: { done, stream }
const streams = new Map(); // those that are open, by the address of their engine
const ended = new Set(); // the ids of engines that an InventoryRequest has named
let calls = 0; // how many are not over
let leaving = false;
let parting = false; // whether nothing is waited for any more

// The actions. Each returns its result; what it throws is its failure. `run.signal` is aborted when it must stop.
class Delegated {
  constructor(alias) {
    this.alias = alias;
  }
}
const sleep = (seconds, run) => {
  if (typeof seconds !== 'number') throw new Error('`seconds` is no number');
  return pause(seconds * 1000, null, { signal: run.signal });
};
const ACTIONS = {
  'check.echo': { parameters: ['output'], act: ({ output }) => output },
  'check.sleep': { parameters: ['seconds'], act: ({ seconds }, run) => sleep(seconds, run) },
  'check.fail': { parameters: ['message'], act: ({ message }) => { throw new Error(message); } },
  'check.delegate': { parameters: ['alias'], act: ({ alias }) => new Delegated(alias) },
  'check.big': { parameters: ['size'], act: ({ size }) => 'x'.repeat(size) },
  'check.progress': {
    parameters: ['text', 'fraction', 'seconds'],
    act: ({ text, fraction, seconds }, run) => {
      run.report({ outcome: 'TASK_OUTCOME_RUNNING', progress: { text, fraction } });
      return sleep(seconds, run);
    },
  },
  'check.pause': {
    parameters: ['seconds'],
    act: async ({ seconds }, run) => {
      run.report({ outcome: 'TASK_OUTCOME_PAUSED' });
      clearTimeout(run.timer); // while it is paused, only the engine stops it
      await sleep(seconds, run);
      run.report({ outcome: 'TASK_OUTCOME_RUNNING' });
    },
  },
};

const keyOf = ({ action_execution_id: id, delivery }) => `${id}/${delivery}`;
// A field of a message that has its default value is absent.
const milliseconds = ({ seconds = 0, nanos = 0 }) => seconds * 1000 + nanos / 1e6;
const failed = (error) => ({ outcome: 'TASK_OUTCOME_FAILED', error: String(error).slice(0, 65_000) || 'it failed' });

async function perform(order, engine, timeLeft) {
  const { action_execution_id: id, delivery } = order;
  const stopping = new AbortController();
  const run = { delivery, engine, stop: (outcome) => stopping.abort(outcome), signal: stopping.signal };
  run.report = (told) => streams.get(engine)?.send({ task_done: { outcomes: [{ action_execution_id: id, delivery, ...told }] } });
  running.set(id, run);
  run.timer = timeLeft < Infinity && setTimeout(() => run.stop(failed('timed out')), timeLeft);
  let outcome;
  try {
    if (timeLeft <= 0) throw new Error('timed out before it was started');
    if (!ACTIONS[order.action]) throw new Error(`${order.action} is not served here`);
    const returned = await ACTIONS[order.action].act(JSON.parse(order.input), run);
    outcome = describe(returned);
  } catch (error) {
    outcome = stopping.signal.aborted ? stopping.signal.reason : failed(error.message);
  }
  clearTimeout(run.timer);
  if (running.get(id) !== run) return; // dropped: nobody waits for its outcome
  running.delete(id);
  outcomes.set(keyOf(order), { done: { action_execution_id: id, delivery, ...outcome }, engine });
  flush();
  giveCredit(engine);
}

function describe(returned) {
  if (returned instanceof Delegated) return { outcome: 'TASK_OUTCOME_DELEGATED', alias: returned.alias };
  const result = JSON.stringify(returned ?? null);
  const size = Buffer.byteLength(result);
  return size > RESULT_BYTES_MAX ? failed(`result too large: ${size} bytes`) : { outcome: 'TASK_OUTCOME_SUCCEEDED', result };
}

// Take an order, unless the delivery is here already: messages may come twice.
function accept(order, engine, timeLeft) {
  const kept = outcomes.get(keyOf(order));
  const run = running.get(order.action_execution_id);
  if (kept) kept.stream = undefined; // it is sent again
  if (kept || run?.delivery >= order.delivery) {
    giveCredit(engine);
    return flush();
  }
  if (run) drop({ ...order, delivery: run.delivery });
  perform(order, engine, timeLeft);
}

function drop(reference) {
  const run = running.get(reference.action_execution_id);
  outcomes.delete(keyOf(reference));
  if (run?.delivery !== reference.delivery) return;
  running.delete(reference.action_execution_id);
  run.stop();
  giveCredit(run.engine);
}

const giveCredit = (engine) => leaving || streams.get(engine)?.send({ credit: { more: 1 } });

// Send each outcome that no open stream carries: on the stream of its action, else on any other.
function flush() {
  for (const kept of outcomes.values()) {
    if (kept.stream?.isOpen) continue;
    kept.stream = streams.get(kept.engine) ?? [...streams.values()][0];
    kept.stream?.send({ task_done: { outcomes: [kept.done] } });
  }
}

const inFlight = () => [
  ...[...running].map(([id, { delivery }]) => ({ action_execution_id: id, delivery })),
  ...[...outcomes.values()].map(({ done: { action_execution_id, delivery } }) => ({ action_execution_id, delivery })),
];

class Stream {
  constructor(engine, client) {
    Object.assign(this, { engine, client, engineId: '', isOpen: false, isDraining: false, heard: performance.now() });
    this.lease = 10_000; // for the Welcome
    this.call = client.Connect();
    calls += 1;
    this.call.on('data', (message) => this.take(message));
    this.call.on('error', () => {}); // `status` comes too, and also after a good end
    this.call.on('status', (status) => this.close(status));
    this.keepTime(1000);
    const own = [...running.values()].filter((run) => run.engine === engine).length;
    this.call.write({
      hello: {
        executor_id: 'polyglot-javascript',
        session_id: SESSION_ID,
        slots: SLOTS,
        credit: leaving ? 0 : Math.max(0, SHARE - own),
        labels: { language: 'javascript' },
        actions: Object.entries(ACTIONS).map(([name, { parameters }]) => ({
          name,
          safe_to_rerun: true,
          parameters: parameters.map((each) => ({ name: each, required: true })),
        })),
        in_flight: inFlight(),
        answers_inventory: true,
      },
    });
  }

  send(message) {
    if (this.isOpen) this.call.write(message);
  }

  take(message) {
    this.heard = performance.now();
    if (message.welcome) this.open(message.welcome);
    for (const order of message.run_action?.actions ?? []) accept(order, this.engine, this.timeLeft(order));
    for (const ack of message.ack?.acks ?? []) {
      if (outcomes.get(keyOf(ack))?.done.outcome === ack.outcome) outcomes.delete(keyOf(ack));
    }
    if (message.ack) this.sayGoodbyeWhenDrained();
    if (message.cancel_action) {
      const { action_execution_id: id, delivery, reason } = message.cancel_action;
      const run = running.get(id);
      if (run?.delivery === delivery) run.stop({ outcome: 'TASK_OUTCOME_CANCELLED', error: reason });
    }
    if (message.inventory) this.answer(message.inventory.engine_id);
    if (message.drain) {
      this.isDraining = true;
      this.sayGoodbyeWhenDrained();
      setTimeout(() => this.sayGoodbye(), milliseconds(message.drain.grace) / 2);
    }
    // A message of another kind comes from a newer engine.
  }

  open(welcome) {
    if (ended.has(welcome.engine_id)) return this.call.cancel();
    this.engineId = welcome.engine_id;
    this.lease = milliseconds(welcome.lease);
    this.clockOffset = milliseconds(welcome.now) - performance.now();
    this.isOpen = true;
    streams.set(this.engine, this);
    (welcome.superseded ?? []).forEach(drop);
    this.keepTime(milliseconds(welcome.heartbeat) / 2);
    flush();
    console.log('ready');
    if (parting) this.sayGoodbye(true);
  }

  timeLeft({ time_left: left, deadline }) {
    if (left) return milliseconds(left);
    if (!deadline) return Infinity;
    return milliseconds(deadline) - (performance.now() + this.clockOffset); // of an older engine
  }

  // Send heartbeats, and leave an engine that sends none.
  keepTime(period) {
    clearInterval(this.timer);
    this.timer = setInterval(() => {
      this.send({ heartbeat: {} });
      if (performance.now() - this.heard > this.lease) this.call.cancel();
    }, period);
  }

  answer(engineId) {
    ended.add(engineId);
    for (const each of streams.values()) if (each.engineId === engineId) each.call.cancel(), each.leave();
    this.send({ inventory: { engine_id: engineId, in_flight: inFlight() } });
    flush();
  }

  sayGoodbyeWhenDrained() {
    const owes = [...outcomes.values()].some(({ stream }) => stream === this);
    if (this.isDraining && !owes) this.sayGoodbye();
  }

  sayGoodbye(release = false) {
    this.send({ goodbye: { release, reason: leaving ? 'the executor stops' : 'the engine stops' } });
    this.leave();
  }

  // Nothing more is sent on it.
  leave() {
    this.isOpen = false;
    if (streams.get(this.engine) === this) streams.delete(this.engine);
  }

  close(status) {
    clearInterval(this.timer);
    this.leave();
    calls -= 1;
    if (parting && calls === 0) process.exit(0);
    const isAborted = status.code === grpc.status.ABORTED;
    const hasOther = isAborted && failureOf(status).reason === 'STREAM_SUPERSEDED';
    if (isAborted && !hasOther) process.exit(1); // another process is this executor now
    flush();
    const again = () => {
      const isOpen = hasOther && [...streams.values()].some(({ engineId }) => engineId === this.engineId);
      if (isOpen) setTimeout(again, 1000); // the engine has two addresses
      else if (!parting) new Stream(this.engine, this.client);
    };
    if (!parting) setTimeout(again, 100 + 200 * Math.random());
  }
}

async function leave() {
  leaving = true;
  const ends = performance.now() + GRACE_MS;
  while (performance.now() < ends && running.size + outcomes.size > 0) await pause(20);
  parting = true;
  [...streams.values()].forEach((stream) => stream.sayGoodbye(true));
  setTimeout(() => process.exit(0), 2000); // else it ends with its last stream
}

process.on('SIGTERM', leave);
for (const engine of ENGINES) {
  // Without this option the library itself waits up to two minutes before it tries again.
  new Stream(engine, new services.ExecutorService(engine, credentials, { 'grpc.max_reconnect_backoff_ms': 1000 }));
}
