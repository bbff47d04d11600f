// A client: node client.js API. It starts an execution, watches it over a broken stream, completes what was delegated, and
// reads what is refused. What it has seen it prints as JSON.
'use strict';
const { randomUUID } = require('node:crypto');
const { ask, credentials, failureOf, grpc, services } = require('./contract');

const address = process.argv[2];
const actions = new services.ActionService(address, credentials);
const executions = new services.ExecutionService(address, credentials);
const system = new services.SystemService(address, credentials);
const workflows = new services.WorkflowService(address, credentials);

const TEXT = `
version: '2.0'
polyglot:
  input: [name, alias, size]
  output: {greeting: <% $.greeting %>, answer: <% $.answer %>, long: <% $.long.len() %>}
  tasks:
    greet: {action: js.greet name=<% $.name %>, publish: {greeting: <% task().result %>}, on-success: [fill]}
    fill: {action: js.long size=<% $.size %>, publish: {long: <% task().result %>}, on-success: [ask]}
    ask: {action: js.ask alias=<% $.alias %>, publish: {answer: <% task().result %>}}
`;

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
      if (![grpc.status.CANCELLED, grpc.status.UNAVAILABLE].includes(error.code)) throw error;
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

async function main() {
  const seen = { sequences: [] };
  const info = await ask(system, 'GetServerInfo', {});
  seen.languages = info.languages;
  await ask(workflows, 'CreateDefinitions', { text: TEXT });
  const alias = `answer-${randomUUID()}`;
  const size = 3_900_000; // a value of nearly the largest size needs no setting of the client
  const start = {
    workflow: 'polyglot',
    execution_id: randomUUID(),
    request_id: randomUUID(),
    input: JSON.stringify({ name: 'Ada', alias, size }),
  };
  seen.created = (await ask(executions, 'StartExecution', start)).created;
  seen.repeated = (await ask(executions, 'StartExecution', start)).execution.id === start.execution_id;
  seen.streams = await follow(start.execution_id, async (change) => {
    seen.sequences.push(change.sequence);
    if (change.attempt_moved && change.attempt_moved.delegated) {
      const outcome = 'COMPLETION_OUTCOME_SUCCEEDED';
      await ask(actions, 'CompleteAction', { alias: change.attempt_moved.alias, outcome, result: '42' });
    }
  });
  const { execution } = await ask(executions, 'GetExecution', { execution_id: start.execution_id });
  Object.assign(seen, { state: execution.state, output: JSON.parse(execution.output) });
  const filter = 'name=fill state=TASK_STATE_SUCCESS';
  const { tasks } = await ask(executions, 'ListTasks', { execution_id: start.execution_id, filter });
  const { task } = await ask(executions, 'GetTask', { task_execution_id: tasks[0].id });
  seen.long = JSON.parse(task.result).length;
  seen.taken = await refusal(ask(executions, 'StartExecution', { ...start, request_id: randomUUID() }));
  seen.invalid = await refusal(ask(executions, 'StartExecution', { ...start, execution_id: 'x', input: '[]', request_id: '' }));
  seen.unknown = await refusal(ask(executions, 'GetExecution', { execution_id: randomUUID() }));
  console.log(JSON.stringify(seen));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
