// Clients of the gateway: node connect_client.mjs URL TLS_URL AUTHORITY. Every transport of connect-web and connect-node does
// the same: it starts, watches, completes, reads, is refused, aborts, and gives up. What each has seen is printed as JSON.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcWebTransport } from '@connectrpc/connect-web';
import * as node from '@connectrpc/connect-node';
import { ActionService, CompletionOutcome } from './gen/dalsegno/v1/action_service_pb.js';
import { ExecutionState } from './gen/dalsegno/v1/execution_pb.js';
import { ExecutionService } from './gen/dalsegno/v1/execution_service_pb.js';
import { SystemService } from './gen/dalsegno/v1/system_service_pb.js';
import { BadRequestSchema, ErrorInfoSchema } from './gen/google/rpc/error_details_pb.js';

const [baseUrl, tlsUrl, authority] = process.argv.slice(2);
const ca = readFileSync(authority);
const LONG = 300_000; // bytes: messages of this size are converted in a thread of the gateway

// The methods of HTTP that a client in the manner of a browser has used, by the name of the rpc.
const spied = (used) => (url, options) => {
  used[new URL(url).pathname.split('/').pop()] = options.method;
  return fetch(url, options);
};
const h2 = { baseUrl, httpVersion: '2' };
const gzip = { sendCompression: node.compressionGzip, compressMinBytes: 0 };
const TRANSPORTS = {
  'web json': (used) => createConnectTransport({ baseUrl, fetch: spied(used), useHttpGet: true }),
  'web binary': (used) => createConnectTransport({ baseUrl, fetch: spied(used), useBinaryFormat: true }),
  'web grpc-web': (used) => createGrpcWebTransport({ baseUrl, fetch: spied(used) }),
  'web grpc-web json': (used) => createGrpcWebTransport({ baseUrl, fetch: spied(used), useBinaryFormat: false }),
  'node connect 1.1': () => node.createConnectTransport({ baseUrl, httpVersion: '1.1' }),
  'node connect 2': () => node.createConnectTransport({ ...h2, useHttpGet: true }),
  'node connect 2 gzip': () => node.createConnectTransport({ ...h2, ...gzip }),
  'node connect 2 json tls': () =>
    node.createConnectTransport({ ...h2, baseUrl: tlsUrl, useBinaryFormat: false, nodeOptions: { ca } }),
  'node grpc-web 2': () => node.createGrpcWebTransport(h2),
  'node grpc 2': () => node.createGrpcTransport(h2),
};

async function refusal(promise) {
  try {
    await promise;
  } catch (thrown) {
    const error = ConnectError.from(thrown);
    const fields = error.findDetails(BadRequestSchema).flatMap((each) => each.fieldViolations.map(({ field }) => field));
    const [info] = error.findDetails(ErrorInfoSchema);
    const requestId = error.metadata.get('x-request-id');
    return { code: Code[error.code], reason: info?.reason, fields, message: error.rawMessage, requestId };
  }
  throw new Error('it was not refused');
}

// Read a stream until `enough` says so of a message, then abort it.
async function aborted(executions, executionId, requestId) {
  const abort = new AbortController();
  const headers = { 'x-request-id': requestId };
  const stream = executions.watchExecution({ executionId, fromFirstChange: true }, { headers, signal: abort.signal });
  return refusal((async () => {
    for await (const message of stream) if (message.content.case === 'changes') abort.abort();
  })());
}

async function see(kind) {
  const used = {};
  const transport = TRANSPORTS[kind](used);
  const executions = createClient(ExecutionService, transport);
  const id = randomUUID();
  const tag = kind.replaceAll(' ', '-');
  const seen = { sequences: [], used };
  seen.languages = (await createClient(SystemService, transport).getServerInfo({})).languages.length;
  const input = JSON.stringify({ long: 'é'.repeat(LONG / 2) });
  await executions.startExecution({ executionId: id, workflow: 'connects', input });
  seen.aborted = await aborted(executions, id, `aborted-${tag}`);
  const headers = { 'x-request-id': `late-${tag}` };
  seen.late = await refusal((async () => {
    for await (const _ of executions.watchExecution({ executionId: id }, { headers, timeoutMs: 3000 })) continue;
  })());
  for await (const { content } of executions.watchExecution({ executionId: id, fromFirstChange: true })) {
    if (content.case !== 'changes') continue;
    for (const { sequence, kind: { case: what, value } } of content.value.changes) {
      seen.sequences.push(Number(sequence));
      if (what !== 'attemptMoved' || !value.delegated) continue;
      const actions = createClient(ActionService, transport);
      const { actionExecutions: [{ id: actionExecutionId }] } = await actions.listActionExecutions({ executionId: id });
      await actions.completeAction({ actionExecutionId, outcome: CompletionOutcome.SUCCEEDED, result: '42' });
    }
  }
  let read = '';
  const onHeader = (found) => { read = found.get('x-request-id'); };
  const { execution } = await executions.getExecution(
    { executionId: id }, { headers: { 'x-request-id': `read-${tag}` }, onHeader });
  Object.assign(seen, { read, state: ExecutionState[execution.state], output: JSON.parse(execution.output) });
  const started = executions.startExecution({ workflow: 'connects', executionId: 'x', input: '[]' },
    { headers: { 'x-request-id': `refused-${tag}` } });
  seen.invalid = await refusal(started);
  seen.unknown = await refusal(executions.getExecution({ executionId: randomUUID() }));
  return seen;
}

const kinds = Object.keys(TRANSPORTS);
const all = await Promise.allSettled(kinds.map(see));
const told = all.map(({ value, reason }) => value ?? { failed: String(reason?.stack ?? reason) });
console.log(JSON.stringify(Object.fromEntries(kinds.map((kind, index) => [kind, told[index]]))));
process.exit(0); // sessions of HTTP/2 stay open
