# A client: ruby -I STUBS client.rb API. It starts an execution, watches it over a broken stream, completes what was delegated,
# and reads what is refused; it pauses another one, resumes it with choices, and runs it again. What it has seen it prints as JSON.
require 'json'
require 'securerandom'
require 'google/protobuf/well_known_types' # Any#is, Any#unpack
require 'google/rpc/error_details_pb'
require 'grpc'
require 'dalsegno/v1/action_service_services_pb'
require 'dalsegno/v1/execution_service_services_pb'
require 'dalsegno/v1/system_service_services_pb'
require 'dalsegno/v1/workflow_service_services_pb'
include Dalsegno::V1

ACTIONS, EXECUTIONS, SYSTEM, WORKFLOWS = [ActionService, ExecutionService, SystemService, WorkflowService].map do |service|
  service::Stub.new(ARGV[0], :this_channel_is_insecure, timeout: 30)
end

def start(workflow, input, more = {})
  request = { workflow: workflow, input: JSON.generate(input), request_id: SecureRandom.uuid, **more }
  EXECUTIONS.start_execution(StartExecutionRequest.new(**request))
end

def wait(id) = EXECUTIONS.wait_execution(WaitExecutionRequest.new(execution_id: id)).execution

# Follow an execution to its rest: every change goes to the block. A stream that breaks is taken up where it was, and this
# one is broken on purpose after each batch.
def follow(id)
  token = ''
  1.step do |streams|
    watch = WatchExecutionRequest.new(execution_id: id, resume_token: token, from_first_change: true)
    call = EXECUTIONS.watch_execution(watch, return_op: true)
    call.execute.each do |message|
      token = message.resume_token
      next unless message.changes

      message.changes.changes.each { |change| yield change }
      call.cancel
    end
    return streams # the server has ended it: the execution is at rest
  rescue GRPC::Cancelled, GRPC::Unavailable, GRPC::Internal, GRPC::Unknown # the last two by a proxy
    next
  end
end

# The reason of a refused call, and the fields that are wrong.
def refusal
  yield
  raise 'it was not refused'
rescue GRPC::BadStatus => e
  found = { code: e.code, reason: '', fields: [] }
  e.to_rpc_status.details.each do |detail|
    found[:reason] = detail.unpack(Google::Rpc::ErrorInfo).reason if detail.is(Google::Rpc::ErrorInfo)
    found[:fields] = detail.unpack(Google::Rpc::BadRequest).field_violations.map(&:field) if detail.is(Google::Rpc::BadRequest)
  end
  found
end

# Order: an execution from its start to its end, with what it delegates completed by its alias.
def order(seen)
  input = { name: 'Ada', alias: "answer-#{SecureRandom.uuid}", size: 3_900_000 } # such a value needs no setting of the client
  ids = { execution_id: SecureRandom.uuid, request_id: SecureRandom.uuid }
  seen[:created] = start('order', input, ids).created
  seen[:repeated] = start('order', input, ids).execution.id == ids[:execution_id]
  seen[:streams] = follow(ids[:execution_id]) do |change|
    seen[:sequences] << change.sequence
    next unless change.attempt_moved&.delegated

    ACTIONS.complete_action(CompleteActionRequest.new(
      alias: change.attempt_moved.alias, outcome: :COMPLETION_OUTCOME_SUCCEEDED, result: '42'
    ))
  end
  execution = EXECUTIONS.get_execution(GetExecutionRequest.new(execution_id: ids[:execution_id])).execution
  seen.merge!(state: execution.state, output: JSON.parse(execution.output))
  tasks = ListTasksRequest.new(execution_id: ids[:execution_id], filter: 'name=fill state=TASK_STATE_SUCCESS')
  task = GetTaskRequest.new(task_execution_id: EXECUTIONS.list_tasks(tasks).tasks[0].id)
  seen[:long] = JSON.parse(EXECUTIONS.get_task(task).task.result).length
  seen[:taken] = refusal { start('order', input, { **ids, request_id: SecureRandom.uuid }) }
  seen[:invalid] = refusal { start('order', [], { execution_id: 'x' }) }
  seen[:unknown] = refusal { EXECUTIONS.get_execution(GetExecutionRequest.new(execution_id: SecureRandom.uuid)) }
end

# Repair: what an operator does. Each step goes on with the state that it has waited for.
def repair(seen)
  id = start('repair', { seconds: 'soon' }).execution.id
  to = { execution_id: id, comment: 'a step' }
  EXECUTIONS.pause_execution(PauseExecutionRequest.new(request_id: SecureRandom.uuid, **to))
  seen[:repair] << wait(id).state
  [
    [],
    [ResumeTask.new(task: 'pack', input: '{"seconds": 0}')], # without it `pack` has failed
    [ResumeTask.new(task: 'send', skip: true, output: '"by hand"')] # without it `send` has failed
  ].each do |tasks|
    EXECUTIONS.resume_execution(ResumeExecutionRequest.new(request_id: SecureRandom.uuid, tasks: tasks, **to))
    seen[:repair] << wait(id).state
  end
  seen[:sent] = JSON.parse(wait(id).output)['sent']
  again = RerunExecutionRequest.new(execution_id: id, start_from: :RERUN_FROM_BEGINNING, input: '{"seconds": 0.1}')
  execution = EXECUTIONS.rerun_execution(again).execution
  seen[:rerunOf] = execution.labels['rerun-of'] == id
  seen[:repair] << wait(execution.id).state
end

seen = { sequences: [], repair: [], languages: SYSTEM.get_server_info(GetServerInfoRequest.new).languages.to_a }
WORKFLOWS.create_definitions(CreateDefinitionsRequest.new(text: File.read("#{__dir__}/workflows.yaml")))
order(seen)
repair(seen)
puts JSON.generate(seen)
