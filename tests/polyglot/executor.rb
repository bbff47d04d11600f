# An executor: ruby -I STUBS executor.rb ENGINE... It serves the actions of `dalsegno executor-check`, prints "ready" once an
# engine is there, and leaves in order on SIGTERM. It keeps all rules of protos/dalsegno/v1/executor_service.proto.
require 'json'
require 'monitor'
require 'securerandom'
require 'google/protobuf/well_known_types'
require 'google/rpc/error_details_pb'
require 'grpc'
require 'dalsegno/v1/executor_service_services_pb'
include Dalsegno::V1

SLOTS = 8
GRACE_S = 3 # how long actions may go on after SIGTERM
RESULT_BYTES_MAX = 4_000_000
SHARE = [1, SLOTS / ARGV.size].max # of the slots, for each engine
SESSION_ID = SecureRandom.uuid

# All that follows is only used with the lock.
LOCK = Monitor.new
RUNNING = {}  # by action execution: a Run
OUTCOMES = {} # not acknowledged, by action execution and delivery: a Kept
STREAMS = {}  # those that are open, by the address of their engine
ENDED = []    # the ids of engines that an InventoryRequest has named
Kept = Struct.new(:done, :engine, :stream)
Delegated = Struct.new(:alias)
$leaving = false
$parting = false # whether nothing is waited for any more

def now_s = Process.clock_gettime(Process::CLOCK_MONOTONIC)
def key_of(each) = [each.action_execution_id, each.delivery]
def failed(error) = { outcome: :TASK_OUTCOME_FAILED, error: error.to_s[0, 65_000] }

# The actions: parameters, and a block that returns the result; what it raises is its failure.
ACTIONS = {
  'check.echo' => [%w[output], ->(input, _) { input['output'] }],
  'check.sleep' => [%w[seconds], ->(input, run) { run.sleep(Float(input['seconds'])) }],
  'check.fail' => [%w[message], ->(input, _) { raise input['message'] }],
  'check.delegate' => [%w[alias], ->(input, _) { Delegated.new(input['alias']) }],
  'check.big' => [%w[size], ->(input, _) { 'x' * input['size'] }],
  'check.progress' => [%w[text fraction seconds], lambda { |input, run|
    run.report(outcome: :TASK_OUTCOME_RUNNING,
               progress: ActionProgress.new(text: input['text'], fraction: input['fraction']))
    run.sleep(input['seconds'])
  }],
  'check.pause' => [%w[seconds], ->(input, run) { run.pause(input['seconds']) }]
}

# One delivery that runs, in a thread of its own.
class Run
  class Stopped < StandardError; end
  attr_reader :delivery, :engine

  def initialize(order, engine, left_s)
    @order, @engine, @delivery = order, engine, order.delivery
    @ends_s = now_s + left_s
    @changed = LOCK.new_cond
    RUNNING[order.action_execution_id] = self
    Thread.new { perform }
  end

  def stop(outcome)
    @outcome = outcome
    @changed.broadcast
  end

  # What an action calls instead of Kernel#sleep, so that a cancel or its deadline wakes it.
  def sleep(seconds)
    wakes_s = now_s + seconds
    LOCK.synchronize do
      until @outcome || (left_s = [wakes_s, @ends_s].min - now_s) <= 0
        @changed.wait(left_s)
      end
      raise Stopped if @outcome
      raise 'timed out' if wakes_s > @ends_s
    end
    nil
  end

  # While it is paused, only the engine stops it.
  def pause(seconds)
    report(outcome: :TASK_OUTCOME_PAUSED)
    @ends_s = Float::INFINITY
    sleep(seconds)
    report(outcome: :TASK_OUTCOME_RUNNING)
    nil
  end

  def report(outcome) = LOCK.synchronize { STREAMS[@engine]&.send_outcome(done(outcome)) }

  private

  def done(outcome)
    TaskDone.new(action_execution_id: @order.action_execution_id, delivery: @delivery, **outcome)
  end

  def perform
    raise 'timed out before it was started' if @ends_s <= now_s

    _, act = ACTIONS.fetch(@order.action) { |name| raise "#{name} is not served here" }
    outcome = describe(act.call(JSON.parse(@order.input), self))
  rescue Stopped
    outcome = @outcome
  rescue StandardError => e
    outcome = failed(e.message)
  ensure
    LOCK.synchronize { finish(outcome) }
  end

  def describe(returned)
    return { outcome: :TASK_OUTCOME_DELEGATED, alias: returned.alias } if returned.is_a?(Delegated)

    result = JSON.generate(returned)
    return failed("result too large: #{result.bytesize} bytes") if result.bytesize > RESULT_BYTES_MAX

    { outcome: :TASK_OUTCOME_SUCCEEDED, result: result }
  end

  def finish(outcome)
    return unless RUNNING[@order.action_execution_id].equal?(self) # dropped: nobody waits for its outcome

    RUNNING.delete(@order.action_execution_id)
    OUTCOMES[key_of(@order)] = Kept.new(done(outcome), @engine)
    flush
    give_credit(@engine)
  end
end

# Take an order, unless the delivery is here already: messages may come twice.
def accept(order, engine, left_s)
  kept, run = OUTCOMES[key_of(order)], RUNNING[order.action_execution_id]
  if kept || (run && run.delivery >= order.delivery)
    kept.stream = nil if kept # it is sent again
    flush
    return give_credit(engine)
  end
  drop(DeliveryReference.new(action_execution_id: order.action_execution_id, delivery: run.delivery)) if run
  Run.new(order, engine, left_s)
end

def drop(reference)
  OUTCOMES.delete(key_of(reference))
  run = RUNNING[reference.action_execution_id]
  return unless run&.delivery == reference.delivery

  RUNNING.delete(reference.action_execution_id)
  run.stop(failed('dropped'))
  give_credit(run.engine)
end

def give_credit(engine)
  STREAMS[engine]&.send_message(credit: Credit.new(more: 1)) unless $leaving
end

# Send each outcome that no open stream carries: on the stream of its action, else on any other.
def flush
  OUTCOMES.each_value do |kept|
    next if kept.stream&.open?

    kept.stream = STREAMS[kept.engine] || STREAMS.values.first
    kept.stream&.send_outcome(kept.done)
  end
end

def in_flight
  keys = RUNNING.map { |id, run| [id, run.delivery] } + OUTCOMES.keys
  keys.map { |id, delivery| DeliveryReference.new(action_execution_id: id, delivery: delivery) }
end

# One stream after the other to one engine.
class Stream
  # Without these options the library itself waits up to two minutes before it tries again.
  OPTIONS = { 'grpc.initial_reconnect_backoff_ms' => 200, 'grpc.max_reconnect_backoff_ms' => 1000 }.freeze
  attr_reader :engine_id

  def initialize(engine)
    @engine = engine
    @stub = ExecutorService::Stub.new(engine, :this_channel_is_insecure, channel_args: OPTIONS)
  end

  def open? = STREAMS[@engine].equal?(self)

  # Open a stream and serve it until its end.
  def serve
    LOCK.synchronize { begin_stream }
    @call.execute.each { |message| LOCK.synchronize { take(message) } }
  rescue GRPC::Aborted => e
    @replaced = replaced?(e)
    exit!(1) unless @replaced # another process is this executor now
  rescue GRPC::BadStatus, GRPC::Core::CallError
    nil # it broke
  ensure
    LOCK.synchronize { close }
  end

  def send_message(**message) = (@outbox << ConnectRequest.new(**message) if open?)
  def send_outcome(done) = send_message(task_done: TaskDoneBatch.new(outcomes: [done]))
  def cancel = @call.cancel

  # The engine has two addresses, and uses the stream of the other one.
  def served_elsewhere?
    LOCK.synchronize { @replaced && STREAMS.each_value.any? { |each| each.engine_id == @engine_id } }
  end

  def say_goodbye(release: false)
    return unless open?

    send_message(goodbye: Goodbye.new(release: release, reason: $leaving ? 'the executor stops' : 'the engine stops'))
    leave
  end

  # Nothing more is sent on it.
  def leave
    STREAMS.delete(@engine) if open?
    @outbox << nil
  end

  private

  def replaced?(error)
    details = error.to_rpc_status&.details || []
    infos = details.select { |each| each.is(Google::Rpc::ErrorInfo) }.map { |each| each.unpack(Google::Rpc::ErrorInfo) }
    infos.any? { |info| info.reason == 'STREAM_SUPERSEDED' }
  end

  def begin_stream
    outbox, @replaced = (@outbox = Queue.new), false
    @engine_id, @draining, @heard_s, @lease_s = '', false, now_s, 10
    outbox << ConnectRequest.new(hello: hello)
    requests = Enumerator.new { |out| while (message = outbox.pop) do out << message end }
    @call = @stub.connect(requests, return_op: true)
    keep_time(1)
  end

  def hello
    own = RUNNING.count { |_, run| run.engine == @engine }
    actions = ACTIONS.map do |name, (parameters, _)|
      parameters = parameters.map { |each| Parameter.new(name: each, required: true) }
      ActionDescription.new(name: name, safe_to_rerun: true, parameters: parameters)
    end
    Hello.new(executor_id: 'polyglot-ruby', session_id: SESSION_ID, slots: SLOTS, labels: { 'language' => 'ruby' },
              credit: $leaving ? 0 : [0, SHARE - own].max, actions: actions, in_flight: in_flight,
              answers_inventory: true)
  end

  def take(message)
    @heard_s = now_s
    case message.message
    when :welcome then welcome(message.welcome)
    when :run_action then message.run_action.actions.each { |order| accept(order, @engine, left_s(order)) }
    when :ack
      message.ack.acks.each { |ack| OUTCOMES.delete(key_of(ack)) if OUTCOMES[key_of(ack)]&.done&.outcome == ack.outcome }
      say_goodbye_when_drained
    when :cancel_action then cancel_action(message.cancel_action)
    when :inventory then answer(message.inventory.engine_id)
    when :drain
      @draining = true
      say_goodbye_when_drained
      Thread.new { Kernel.sleep(message.drain.grace.to_f / 2) && LOCK.synchronize { say_goodbye if @draining } }
    end # a message of another kind comes from a newer engine
  end

  def welcome(welcome)
    return cancel if ENDED.include?(welcome.engine_id)

    @engine_id, @lease_s = welcome.engine_id, welcome.lease.to_f
    @clock_offset_s = welcome.now.to_f - now_s
    STREAMS[@engine] = self
    welcome.superseded.each { |reference| drop(reference) }
    keep_time(welcome.heartbeat.to_f / 2)
    flush
    puts 'ready'
    say_goodbye(release: true) if $parting
  end

  def left_s(order)
    return order.time_left.to_f if order.time_left
    return Float::INFINITY unless order.deadline

    order.deadline.to_f - (now_s + @clock_offset_s) # of an older engine
  end

  def cancel_action(cancel)
    run = RUNNING[cancel.action_execution_id]
    run.stop(outcome: :TASK_OUTCOME_CANCELLED, error: cancel.reason) if run&.delivery == cancel.delivery
  end

  # Send heartbeats, and leave an engine that sends none.
  def keep_time(period_s)
    @keeper&.kill
    @keeper = Thread.new do
      loop do
        Kernel.sleep(period_s)
        LOCK.synchronize do
          send_message(heartbeat: Heartbeat.new)
          cancel if now_s - @heard_s > @lease_s
        end
      end
    end
  end

  def answer(engine_id)
    ENDED << engine_id
    STREAMS.values.select { |each| each.engine_id == engine_id }.each { |each| each.leave && each.cancel }
    send_message(inventory: Inventory.new(engine_id: engine_id, in_flight: in_flight))
    flush
  end

  def say_goodbye_when_drained
    say_goodbye if @draining && OUTCOMES.values.none? { |kept| kept.stream.equal?(self) }
  end

  def close
    @keeper.kill
    leave
    @draining = false
    flush
  end
end

STREAM_THREADS = ARGV.map do |engine|
  Thread.new do
    stream = Stream.new(engine)
    until $parting
      stream.serve
      sleep(rand(0.1..0.3)) unless $parting
      sleep(1) while !$parting && stream.served_elsewhere?
    end
  end
end

stopping = Queue.new
trap('TERM') { stopping << true } # a handler may not use locks
$stdout.sync = true
stopping.pop
$leaving = true
ends_s = now_s + GRACE_S
sleep(0.02) while now_s < ends_s && LOCK.synchronize { RUNNING.any? || OUTCOMES.any? }
$parting = true
LOCK.synchronize { STREAMS.values.each { |stream| stream.say_goodbye(release: true) } }
STREAM_THREADS.each { |thread| thread.join(2) }
exit!(0)
