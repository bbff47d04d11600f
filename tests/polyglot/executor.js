// An executor: node executor.js ENGINE. It serves js.greet, which answers at once, and js.ask, which a third party completes.
// It says "ready" once it is welcome, and goes politely on SIGTERM.
'use strict';
const { randomUUID } = require('node:crypto');
const { credentials, grpc, services } = require('./contract');

const SLOTS = 4;
const sessionId = randomUUID();
const client = new services.ExecutorService(process.argv[2], credentials);
const unacknowledged = new Map(); // by action execution and delivery: what is sent again after a reconnect
let leaving = false;

const ACTIONS = {
  'js.greet': ({ name }) => ({ outcome: 'TASK_OUTCOME_SUCCEEDED', result: JSON.stringify(`Hello, ${name}`) }),
  'js.long': ({ size }) => ({ outcome: 'TASK_OUTCOME_SUCCEEDED', result: JSON.stringify('x'.repeat(size)) }),
  'js.ask': ({ alias }) => ({ outcome: 'TASK_OUTCOME_DELEGATED', alias }),
};
const PARAMETERS = { 'js.greet': 'name', 'js.long': 'size', 'js.ask': 'alias' };

function outcomeOf(run) {
  try {
    return ACTIONS[run.action](JSON.parse(run.input));
  } catch (error) {
    return { outcome: 'TASK_OUTCOME_FAILED', error: String(error.message) };
  }
}

function connect() {
  const stream = client.Connect();
  let beating;
  const send = (done) => stream.write({ task_done: { outcomes: [done] } });
  stream.write({
    hello: {
      executor_id: 'polyglot',
      session_id: sessionId,
      slots: SLOTS,
      credit: SLOTS,
      labels: { language: 'javascript' },
      actions: Object.entries(PARAMETERS).map(([name, parameter]) => ({
        name,
        safe_to_rerun: true,
        parameters: [{ name: parameter, required: true }],
      })),
      in_flight: [...unacknowledged.values()].map(({ action_execution_id, delivery }) => ({ action_execution_id, delivery })),
    },
  });
  stream.on('data', (message) => {
    if (message.welcome) {
      const { seconds, nanos } = message.welcome.heartbeat;
      beating = setInterval(() => stream.write({ heartbeat: {} }), (seconds + nanos / 1e9) * 500);
      for (const done of unacknowledged.values()) send(done);
      console.log('ready');
    } else if (message.run_action) {
      for (const run of message.run_action.actions) {
        const { action_execution_id, delivery } = run;
        const done = { action_execution_id, delivery, ...outcomeOf(run) };
        unacknowledged.set(`${action_execution_id}/${delivery}`, done);
        send(done);
        stream.write({ credit: { more: 1 } });
      }
    } else if (message.ack) {
      for (const ack of message.ack.acks) unacknowledged.delete(`${ack.action_execution_id}/${ack.delivery}`);
    } else if (message.drain) {
      stream.write({ goodbye: { reason: 'drained' } });
    } // a message of a kind that is not known here is of a newer engine: it is left alone
  });
  stream.on('error', (error) => {
    clearInterval(beating);
    if (error.code === grpc.status.ABORTED || leaving) process.exit(leaving ? 0 : 1);
    setTimeout(connect, 200);
  });
  stream.on('end', () => {
    clearInterval(beating);
    if (leaving) process.exit(0);
  });
  process.once('SIGTERM', () => {
    leaving = true;
    stream.write({ goodbye: { reason: 'stopping', release: true } });
  });
}

connect();
