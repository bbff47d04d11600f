// An executor: executor ENGINE... It serves the actions of `dalsegno executor-check`, prints "ready" once an engine is
// there, and leaves in order on SIGTERM. It keeps all rules of protos/dalsegno/v1/executor_service.proto.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	pb "dalsegno/v1"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	slots          = 8
	grace          = 3 * time.Second // how long actions may go on after SIGTERM
	resultBytesMax = 4_000_000
)

type key struct {
	id       string
	delivery int32
}

// A run is one delivery that runs.
type run struct {
	delivery int32
	engine   string
	timer    *time.Timer // stops it at its deadline
	stop     context.CancelFunc
	canceled *pb.TaskDone // why it was stopped, unless by its deadline
}

// A kept outcome is not acknowledged yet.
type kept struct {
	done   *pb.TaskDone
	engine string
	stream *stream // which carries it; nil: none
}

// The session: all that follows is only used with the lock.
var (
	lock      sync.Mutex
	sessionID = newUUID()
	share     = slots / len(os.Args[1:]) // of the slots, for each engine
	running   = map[string]*run{}        // by action execution
	outcomes  = map[key]*kept{}          // not acknowledged
	streams   = map[string]*stream{}     // those that are open, by the address of their engine
	ended     = map[string]bool{}        // the ids of engines that an InventoryRequest has named
	leaving   = false
	parting   = false // whether nothing is waited for any more
)

func newUUID() string {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		panic(err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// input has the fields of all actions. A json.RawMessage stays as it came: numbers of any size are exact.
type input struct {
	Output   json.RawMessage
	Seconds  float64
	Message  string
	Alias    string
	Size     int
	Text     string
	Fraction float64
}

type action struct {
	parameters []string
	act        func(ctx context.Context, in input, report func(*pb.TaskDone)) (*pb.TaskDone, error)
}

var actions = map[string]action{
	"check.echo": {[]string{"output"}, func(_ context.Context, in input, _ func(*pb.TaskDone)) (*pb.TaskDone, error) {
		return succeeded(in.Output)
	}},
	"check.sleep": {[]string{"seconds"}, func(ctx context.Context, in input, _ func(*pb.TaskDone)) (*pb.TaskDone, error) {
		return sleep(ctx, in.Seconds)
	}},
	"check.fail": {[]string{"message"}, func(_ context.Context, in input, _ func(*pb.TaskDone)) (*pb.TaskDone, error) {
		return nil, errors.New(in.Message)
	}},
	"check.delegate": {[]string{"alias"}, func(_ context.Context, in input, _ func(*pb.TaskDone)) (*pb.TaskDone, error) {
		return &pb.TaskDone{Outcome: pb.TaskOutcome_TASK_OUTCOME_DELEGATED, Alias: in.Alias}, nil
	}},
	"check.big": {[]string{"size"}, func(_ context.Context, in input, _ func(*pb.TaskDone)) (*pb.TaskDone, error) {
		return succeeded(strings.Repeat("x", in.Size))
	}},
	"check.progress": {[]string{"text", "fraction", "seconds"},
		func(ctx context.Context, in input, report func(*pb.TaskDone)) (*pb.TaskDone, error) {
			progress := &pb.ActionProgress{Text: in.Text, Fraction: &in.Fraction}
			report(&pb.TaskDone{Outcome: pb.TaskOutcome_TASK_OUTCOME_RUNNING, Progress: progress})
			return sleep(ctx, in.Seconds)
		}},
	"check.pause": {[]string{"seconds"},
		func(ctx context.Context, in input, report func(*pb.TaskDone)) (*pb.TaskDone, error) {
			report(&pb.TaskDone{Outcome: pb.TaskOutcome_TASK_OUTCOME_PAUSED})
			done, err := sleep(ctx, in.Seconds)
			if err == nil {
				report(&pb.TaskDone{Outcome: pb.TaskOutcome_TASK_OUTCOME_RUNNING})
			}
			return done, err
		}},
}

func succeeded(value interface{}) (*pb.TaskDone, error) {
	result, err := json.Marshal(value)
	if err == nil && len(result) > resultBytesMax {
		err = fmt.Errorf("result too large: %d bytes", len(result))
	}
	return &pb.TaskDone{Outcome: pb.TaskOutcome_TASK_OUTCOME_SUCCEEDED, Result: string(result)}, err
}

func sleep(ctx context.Context, seconds float64) (*pb.TaskDone, error) {
	select {
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		return succeeded(nil)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// accept takes an order, unless the delivery is here already: messages may come twice.
func accept(order *pb.RunAction, engine string, left time.Duration) {
	k := key{order.ActionExecutionId, order.Delivery}
	known, had := outcomes[k]
	current, runs := running[k.id]
	if had || runs && current.delivery >= k.delivery {
		if had {
			known.stream = nil // it is sent again
		}
		flush()
		giveCredit(engine)
		return
	}
	if runs {
		drop(key{k.id, current.delivery})
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{delivery: k.delivery, engine: engine, timer: time.AfterFunc(left, cancel)}
	r.stop = func() {
		r.timer.Stop()
		cancel()
	}
	running[k.id] = r
	go perform(ctx, order, r)
}

func perform(ctx context.Context, order *pb.RunAction, r *run) {
	report := func(told *pb.TaskDone) {
		lock.Lock()
		defer lock.Unlock()
		if told.Outcome == pb.TaskOutcome_TASK_OUTCOME_PAUSED {
			r.timer.Stop() // while it is paused, only the engine stops it
		}
		told.ActionExecutionId, told.Delivery = order.ActionExecutionId, order.Delivery
		if s := streams[r.engine]; s != nil {
			s.sendOutcome(told)
		}
	}
	done, err := func() (*pb.TaskDone, error) {
		var in input
		if action, ok := actions[order.Action]; !ok {
			return nil, fmt.Errorf("%s is not served here", order.Action)
		} else if err := json.Unmarshal([]byte(order.Input), &in); err != nil {
			return nil, err
		} else if ctx.Err() != nil {
			return nil, errors.New("timed out before it was started")
		} else {
			return action.act(ctx, in, report)
		}
	}()
	if err != nil && ctx.Err() != nil {
		err = errors.New("timed out")
	}
	r.stop()
	lock.Lock()
	defer lock.Unlock()
	if running[order.ActionExecutionId] != r {
		return // dropped: nobody waits for its outcome
	}
	delete(running, order.ActionExecutionId)
	if err != nil && r.canceled != nil {
		done = r.canceled
	} else if err != nil {
		words := strings.ToValidUTF8(err.Error(), "?")
		done = &pb.TaskDone{Outcome: pb.TaskOutcome_TASK_OUTCOME_FAILED, Error: words[:min(len(words), 65_000)]}
	}
	done.ActionExecutionId, done.Delivery = order.ActionExecutionId, order.Delivery
	outcomes[key{order.ActionExecutionId, order.Delivery}] = &kept{done: done, engine: r.engine}
	flush()
	giveCredit(r.engine)
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func drop(k key) {
	delete(outcomes, k)
	if r := running[k.id]; r != nil && r.delivery == k.delivery {
		delete(running, k.id)
		r.stop()
		giveCredit(r.engine)
	}
}

func giveCredit(engine string) {
	if s := streams[engine]; s != nil && !leaving {
		s.send(&pb.ConnectRequest{Message: &pb.ConnectRequest_Credit{Credit: &pb.Credit{More: 1}}})
	}
}

// flush sends each outcome that no open stream carries: on the stream of its action, else on any other.
func flush() {
	for _, each := range outcomes {
		if each.stream != nil && each.stream.isOpen() {
			continue
		}
		each.stream = streams[each.engine]
		for _, other := range streams {
			if each.stream == nil {
				each.stream = other
			}
		}
		if each.stream != nil {
			each.stream.sendOutcome(each.done)
		}
	}
}

func inFlight() (found []*pb.DeliveryReference) {
	for id, r := range running {
		found = append(found, &pb.DeliveryReference{ActionExecutionId: id, Delivery: r.delivery})
	}
	for k := range outcomes {
		found = append(found, &pb.DeliveryReference{ActionExecutionId: k.id, Delivery: k.delivery})
	}
	return found
}

// A stream to one engine.
type stream struct {
	engine, engineID string
	outbox           chan *pb.ConnectRequest // Send may not be called by two goroutines at once
	cancel           context.CancelFunc
	lease            time.Duration
	heard            time.Time
	clockOffset      time.Duration // the engine's clock minus this one, when the Welcome came
	isDraining       bool
}

func (s *stream) isOpen() bool { return streams[s.engine] == s }

func (s *stream) send(message *pb.ConnectRequest) {
	if s.isOpen() {
		s.outbox <- message
	}
}

func (s *stream) sendOutcome(done *pb.TaskDone) {
	batch := &pb.TaskDoneBatch{Outcomes: []*pb.TaskDone{done}}
	s.send(&pb.ConnectRequest{Message: &pb.ConnectRequest_TaskDone{TaskDone: batch}})
}

// serve opens a stream, and returns at its end which engine it was to.
func serve(engine string, client pb.ExecutorServiceClient) (string, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	call, err := client.Connect(ctx)
	if err != nil {
		return "", err
	}
	s := &stream{engine: engine, outbox: make(chan *pb.ConnectRequest, 100_000), cancel: cancel}
	s.lease, s.heard = 10*time.Second, time.Now()
	lock.Lock()
	s.outbox <- &pb.ConnectRequest{Message: &pb.ConnectRequest_Hello{Hello: s.hello()}}
	lock.Unlock()
	go s.write(ctx, call)
	go s.keepTime(ctx, time.Second)
	defer func() {
		lock.Lock()
		defer lock.Unlock()
		s.leave()
		flush()
	}()
	for {
		message, err := call.Recv()
		if err != nil {
			return s.engineID, err
		}
		lock.Lock()
		s.take(ctx, message)
		lock.Unlock()
	}
}

func (s *stream) write(ctx context.Context, call pb.ExecutorService_ConnectClient) {
	for {
		select {
		case message := <-s.outbox:
			if call.Send(message) != nil {
				return // Recv has the reason
			}
		case <-ctx.Done():
			return
		}
	}
}

func (s *stream) hello() *pb.Hello {
	credit := share
	for _, r := range running {
		if r.engine == s.engine {
			credit--
		}
	}
	if leaving || credit < 0 {
		credit = 0
	}
	hello := &pb.Hello{ExecutorId: "polyglot-go", SessionId: sessionID, Slots: slots, Credit: int32(credit),
		Labels: map[string]string{"language": "go"}, InFlight: inFlight(), AnswersInventory: true}
	for name, each := range actions {
		description := &pb.ActionDescription{Name: name, SafeToRerun: true}
		for _, parameter := range each.parameters {
			description.Parameters = append(description.Parameters, &pb.Parameter{Name: parameter, Required: true})
		}
		hello.Actions = append(hello.Actions, description)
	}
	return hello
}

func (s *stream) take(ctx context.Context, message *pb.ConnectResponse) {
	s.heard = time.Now()
	switch m := message.Message.(type) {
	case *pb.ConnectResponse_Welcome:
		s.open(ctx, m.Welcome)
	case *pb.ConnectResponse_RunAction:
		for _, order := range m.RunAction.Actions {
			accept(order, s.engine, s.timeLeft(order))
		}
	case *pb.ConnectResponse_Ack:
		for _, ack := range m.Ack.Acks {
			k := key{ack.ActionExecutionId, ack.Delivery}
			if known := outcomes[k]; known != nil && known.done.Outcome == ack.Outcome {
				delete(outcomes, k)
			}
		}
		s.sayGoodbyeWhenDrained()
	case *pb.ConnectResponse_CancelAction:
		if r := running[m.CancelAction.ActionExecutionId]; r != nil && r.delivery == m.CancelAction.Delivery {
			r.canceled = &pb.TaskDone{Outcome: pb.TaskOutcome_TASK_OUTCOME_CANCELLED, Error: m.CancelAction.Reason}
			r.stop()
		}
	case *pb.ConnectResponse_Inventory:
		s.answer(m.Inventory.EngineId)
	case *pb.ConnectResponse_Drain:
		s.isDraining = true
		s.sayGoodbyeWhenDrained()
		time.AfterFunc(m.Drain.Grace.AsDuration()/2, func() {
			lock.Lock()
			defer lock.Unlock()
			s.sayGoodbye(false)
		})
	} // a message of another kind comes from a newer engine
}

func (s *stream) open(ctx context.Context, welcome *pb.Welcome) {
	if ended[welcome.EngineId] {
		s.cancel()
		return
	}
	s.engineID, s.lease = welcome.EngineId, welcome.Lease.AsDuration()
	s.clockOffset = time.Until(welcome.Now.AsTime())
	s.heard = time.Now()
	streams[s.engine] = s
	for _, each := range welcome.Superseded {
		drop(key{each.ActionExecutionId, each.Delivery})
	}
	go s.keepTime(ctx, welcome.Heartbeat.AsDuration()/2)
	flush()
	fmt.Println("ready")
	if parting {
		s.sayGoodbye(true)
	}
}

func (s *stream) timeLeft(order *pb.RunAction) time.Duration {
	if order.TimeLeft != nil {
		return order.TimeLeft.AsDuration()
	}
	if order.Deadline == nil {
		return 1 << 62 // nanoseconds: no limit
	}
	return time.Until(order.Deadline.AsTime()) - s.clockOffset // of an older engine
}

// keepTime sends heartbeats, and leaves an engine that sends none.
func (s *stream) keepTime(ctx context.Context, period time.Duration) {
	for ctx.Err() == nil {
		time.Sleep(period)
		lock.Lock()
		s.send(&pb.ConnectRequest{Message: &pb.ConnectRequest_Heartbeat{Heartbeat: &pb.Heartbeat{}}})
		if time.Since(s.heard) > s.lease {
			s.cancel()
		}
		lock.Unlock()
	}
}

func (s *stream) answer(engineID string) {
	ended[engineID] = true
	for _, each := range streams {
		if each.engineID == engineID {
			each.leave()
			each.cancel()
		}
	}
	inventory := &pb.Inventory{EngineId: engineID, InFlight: inFlight()}
	s.send(&pb.ConnectRequest{Message: &pb.ConnectRequest_Inventory{Inventory: inventory}})
	flush()
}

func (s *stream) sayGoodbyeWhenDrained() {
	for _, each := range outcomes {
		if each.stream == s {
			return
		}
	}
	if s.isDraining {
		s.sayGoodbye(false)
	}
}

func (s *stream) sayGoodbye(release bool) {
	goodbye := &pb.Goodbye{Release: release, Reason: "it stops"}
	s.send(&pb.ConnectRequest{Message: &pb.ConnectRequest_Goodbye{Goodbye: goodbye}})
	s.leave()
}

// leave sends nothing more on it.
func (s *stream) leave() {
	if s.isOpen() {
		delete(streams, s.engine)
	}
}

func serveForEver(engine string, over *sync.WaitGroup) {
	defer over.Done()
	// Without these parameters the library itself waits up to two minutes before it tries again.
	pauses := backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second}
	parameters := grpc.ConnectParams{Backoff: pauses, MinConnectTimeout: 5 * time.Second}
	channel, err := grpc.Dial(engine, grpc.WithInsecure(), grpc.WithConnectParams(parameters))
	if err != nil {
		panic(err)
	}
	client := pb.NewExecutorServiceClient(channel)
	for !isParting() {
		engineID, err := serve(engine, client)
		if status.Code(err) == codes.Aborted && !isSuperseded(err) {
			os.Exit(1) // another process is this executor now
		}
		time.Sleep(200 * time.Millisecond)
		for isSuperseded(err) && isOpenTo(engineID) && !isParting() {
			time.Sleep(time.Second) // the engine has two addresses
		}
	}
}

// isSuperseded tells whether the engine has a newer stream of this session.
func isSuperseded(err error) bool {
	for _, each := range status.Convert(err).Details() {
		if info, ok := each.(*errdetails.ErrorInfo); ok && info.Reason == "STREAM_SUPERSEDED" {
			return true
		}
	}
	return false
}

func isOpenTo(engineID string) bool {
	lock.Lock()
	defer lock.Unlock()
	for _, each := range streams {
		if each.engineID == engineID {
			return true
		}
	}
	return false
}

func isParting() bool {
	lock.Lock()
	defer lock.Unlock()
	return parting
}

func isIdle() bool {
	lock.Lock()
	defer lock.Unlock()
	return len(running)+len(outcomes) == 0
}

func main() {
	var over sync.WaitGroup
	for _, engine := range os.Args[1:] {
		over.Add(1)
		go serveForEver(engine, &over)
	}
	stopping := make(chan os.Signal, 1)
	signal.Notify(stopping, syscall.SIGTERM)
	<-stopping
	lock.Lock()
	leaving = true
	lock.Unlock()
	for ends := time.Now().Add(grace); time.Now().Before(ends) && !isIdle(); {
		time.Sleep(20 * time.Millisecond)
	}
	lock.Lock()
	parting = true
	for _, s := range streams {
		s.sayGoodbye(true)
	}
	lock.Unlock()
	time.AfterFunc(2*time.Second, func() { os.Exit(0) })
	over.Wait()
}
