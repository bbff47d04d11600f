// A client: node client.js API. It starts an execution, watches it over a broken stream, completes what was delegated, and
// reads what is refused; it pauses another one, resumes it with choices, and runs it again. What it has seen it prints as JSON.
'use strict';
const { randomUUID } = require('node:crypto');
const { readFileSync } = require('node:fs');
const path = require('node:path');
const { ask, credentials, failureOf, grpc, services } = require('./contract');

const address = process.argv[2];
const actions = new services.ActionService(address, credentials);
const executions = new services.ExecutionService(address, credentials);
const system = new services.SystemService(address, credentials);
const workflows = new services.WorkflowService(address, credentials);

const start = async (workflow, input, more = {}) => {
  const request = { workflow, input: JSON.stringify(input), request_id: randomUUID(), ...more };
  return ask(executions, 'StartExecution', request);
};
const wait = async (id) => (await ask(executions, 'WaitExecution', { execution_id: id })).execution;

// Follow an execution to its rest: every change goes to `take`. A stream that breaks is taken up where it was, and this one
// is broken on purpose after each batch.
async function follow(executionId, take) {
  let token = '';
  for (let streams = 1; ; streams += 1) {
    const stream = executions.WatchExecution({ execution_id: executionId, resume_token: token, from_first_change: true });
    try {
      for await (const message of stream) {
        token = message.resume_token;
        if (message.changes) {
          for (const change of message.changes.changes) await take(change);
          stream.cancel();
        }
      }
      return streams; // the server has ended it: the execution is at rest
    } catch (error) {
      // The last two by a proxy.
      const broken = [grpc.status.CANCELLED, grpc.status.UNAVAILABLE, grpc.status.INTERNAL, grpc.status.UNKNOWN];
      if (!broken.includes(error.code)) throw error;
    }
  }
}

async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    return failureOf(error);
  }
  throw new Error('it was not refused');
}

// Order: an execution from its start to its end, with what it delegates completed by its alias.
async function order(seen) {
  const alias = `answer-${randomUUID()}`;
  const size = 3_900_000; // a value of nearly the largest size needs no setting of the client
  const input = { name: 'Ada', alias, size };
  const ids = { execution_id: randomUUID(), request_id: randomUUID() };
  seen.created = (await start('order', input, ids)).created;
  seen.repeated = (await start('order', input, ids)).execution.id === ids.execution_id;
  seen.streams = await follow(ids.execution_id, async ({ sequence, attempt_moved: moved }) => {
    seen.sequences.push(sequence);
    if (!moved?.delegated) return;
    const outcome = 'COMPLETION_OUTCOME_SUCCEEDED';
    await ask(actions, 'CompleteAction', { alias: moved.alias, outcome, result: '42' });
  });
  const { execution } = await ask(executions, 'GetExecution', { execution_id: ids.execution_id });
  Object.assign(seen, { state: execution.state, output: JSON.parse(execution.output) });
  const filter = 'name=fill state=TASK_STATE_SUCCESS';
  const { tasks } = await ask(executions, 'ListTasks', { execution_id: ids.execution_id, filter });
  const { task } = await ask(executions, 'GetTask', { task_execution_id: tasks[0].id });
  seen.long = JSON.parse(task.result).length;
  seen.taken = await refusal(start('order', input, { ...ids, request_id: randomUUID() }));
  seen.invalid = await refusal(start('order', [], { execution_id: 'x' }));
  seen.unknown = await refusal(ask(executions, 'GetExecution', { execution_id: randomUUID() }));
}

// Repair: what an operator does. Each step goes on with the state that it has waited for.
async function repair(seen) {
  const { id } = (await start('repair', { seconds: 'soon' })).execution;
  const steps = [
    ['PauseExecution', {}],
    ['ResumeExecution', {}], // now `pack` fails
    ['ResumeExecution', { tasks: [{ task: 'pack', input: '{"seconds": 0}' }] }], // now `send` fails
    ['ResumeExecution', { tasks: [{ task: 'send', skip: true, output: '"by hand"' }] }],
  ];
  for (const [method, request] of steps) {
    await ask(executions, method, { execution_id: id, request_id: randomUUID(), comment: 'a step', ...request });
    seen.repair.push((await wait(id)).state);
  }
  seen.sent = JSON.parse((await wait(id)).output).sent;
  const again = { execution_id: id, start_from: 'RERUN_FROM_BEGINNING', input: '{"seconds": 0.1}' };
  const { execution } = await ask(executions, 'RerunExecution', again);
  seen.rerunOf = execution.labels['rerun-of'] === id;
  seen.repair.push((await wait(execution.id)).state);
}

async function main() {
  const seen = { sequences: [], repair: [] };
  seen.languages = (await ask(system, 'GetServerInfo', {})).languages;
  const text = readFileSync(path.join(__dirname, 'workflows.yaml'), 'utf8');
  await ask(workflows, 'CreateDefinitions', { text });
  await order(seen);
  await repair(seen);
  console.log(JSON.stringify(seen));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
