// The contract in JavaScript: what protos/ says, loaded as it stands, and the details of errors.
'use strict';
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const PROTOS = process.env.DALSEGNO_PROTOS || path.join(__dirname, '..', '..', 'protos');

// google.rpc.Status and what of its details this program reads; the whole is in googleapis/google/rpc.
const RPC = protobuf.parse(`
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message BadRequest { repeated Violation field_violations = 1; message Violation { string field = 1; string description = 2; } }
`).root;

// The services of the package, by name: `new services.ExecutionService(address, credentials)`.
const FILES = ['action_service', 'execution_service', 'executor_service', 'system_service', 'workflow_service'];
const services = grpc.loadPackageDefinition(
  protoLoader.loadSync(
    FILES.map((name) => `dalsegno/v1/${name}.proto`),
    { includeDirs: [PROTOS], keepCase: true, longs: Number, enums: String, oneofs: true },
  ),
).dalsegno.v1;

// The reason of a failed call, its metadata, and the fields that are wrong.
function failureOf(error) {
  const found = { code: error.code, reason: '', metadata: {}, fields: [] };
  const [written] = error.metadata.get('grpc-status-details-bin');
  if (!written) return found;
  for (const detail of RPC.lookupType('Status').decode(written).details) {
    const kind = detail.typeUrl.split('/').pop();
    if (kind === 'google.rpc.ErrorInfo') {
      const info = RPC.lookupType('ErrorInfo').decode(detail.value);
      Object.assign(found, { reason: info.reason, metadata: { ...info.metadata } });
    } else if (kind === 'google.rpc.BadRequest') {
      const bad = RPC.lookupType('BadRequest').decode(detail.value);
      found.fields = bad.fieldViolations.map((each) => each.field);
    }
  }
  return found;
}

// A unary call as a promise: `await ask(client, 'GetExecution', { execution_id })`.
function ask(client, method, request, seconds = 30) {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + seconds * 1000;
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

module.exports = { ask, credentials: grpc.credentials.createInsecure(), failureOf, grpc, services };
