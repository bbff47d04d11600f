// A client: client API WORKFLOWS. It starts an execution, watches it over a broken stream, completes what was delegated, and
// reads what is refused; it pauses another one, resumes it with choices, and runs it again. What it has seen it prints as JSON.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	pb "dalsegno/v1"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var (
	ctx        = context.Background()
	actions    pb.ActionServiceClient
	executions pb.ExecutionServiceClient
)

type refusal struct {
	Code   codes.Code `json:"code"`
	Reason string     `json:"reason"`
	Fields []string   `json:"fields"`
}

// What the program has seen.
var seen struct {
	Languages []string        `json:"languages"`
	Sequences []int64         `json:"sequences"`
	Streams   int             `json:"streams"`
	Created   bool            `json:"created"`
	Repeated  bool            `json:"repeated"`
	State     string          `json:"state"`
	Output    json.RawMessage `json:"output"`
	Long      int             `json:"long"`
	Taken     refusal         `json:"taken"`
	Invalid   refusal         `json:"invalid"`
	Unknown   refusal         `json:"unknown"`
	Repair    []string        `json:"repair"`
	Sent      string          `json:"sent"`
	RerunOf   bool            `json:"rerunOf"`
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func newUUID() string {
	b := make([]byte, 16)
	_, err := rand.Read(b)
	must(err)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// withDeadline gives each unary call 30 seconds.
func withDeadline(ctx context.Context, method string, request, answer interface{}, channel *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return invoke(ctx, method, request, answer, channel, options...)
}

func toJSON(value interface{}) string {
	text, err := json.Marshal(value)
	must(err)
	return string(text)
}

func start(request *pb.StartExecutionRequest) *pb.StartExecutionResponse {
	answer, err := executions.StartExecution(ctx, request)
	must(err)
	return answer
}

func wait(id string) *pb.Execution {
	answer, err := executions.WaitExecution(ctx, &pb.WaitExecutionRequest{ExecutionId: id})
	must(err)
	return answer.Execution
}

// follow gives every change of an execution to take, until its rest, and returns the number of streams. A stream that breaks
// is taken up where it was, and this one is broken on purpose after each batch.
func follow(id string, take func(*pb.Change)) int {
	token := ""
	for streams := 1; ; streams++ {
		breakable, cancel := context.WithCancel(ctx)
		request := &pb.WatchExecutionRequest{ExecutionId: id, ResumeToken: token, FromFirstChange: true}
		stream, err := executions.WatchExecution(breakable, request)
		must(err)
		for err == nil {
			var message *pb.WatchExecutionResponse
			if message, err = stream.Recv(); err != nil {
				break
			}
			token = message.ResumeToken
			for _, change := range message.GetChanges().GetChanges() { // of a message that is absent there are none
				take(change)
				cancel()
			}
		}
		cancel()
		if err == io.EOF {
			return streams // the server has ended it: the execution is at rest
		}
		switch status.Code(err) {
		case codes.Canceled, codes.Unavailable, codes.Internal, codes.Unknown: // the last two by a proxy
		default:
			must(err)
		}
	}
}

// refusalOf returns the reason of a refused call, and the fields that are wrong.
func refusalOf(err error) refusal {
	found := refusal{Code: status.Code(err), Fields: []string{}}
	for _, detail := range status.Convert(err).Details() {
		switch each := detail.(type) {
		case *errdetails.ErrorInfo:
			found.Reason = each.Reason
		case *errdetails.BadRequest:
			for _, violation := range each.FieldViolations {
				found.Fields = append(found.Fields, violation.Field)
			}
		}
	}
	return found
}

// order runs an execution from its start to its end, with what it delegates completed by its alias.
func order() {
	input := map[string]interface{}{"name": "Ada", "alias": "answer-" + newUUID(), "size": 3_900_000}
	request := &pb.StartExecutionRequest{Workflow: "order", Input: toJSON(input), ExecutionId: newUUID(), RequestId: newUUID()}
	id := request.ExecutionId
	seen.Created = start(request).Created
	seen.Repeated = start(request).Execution.Id == id
	seen.Streams = follow(id, func(change *pb.Change) {
		seen.Sequences = append(seen.Sequences, change.Sequence)
		if moved := change.GetAttemptMoved(); moved.GetDelegated() {
			outcome := pb.CompletionOutcome_COMPLETION_OUTCOME_SUCCEEDED
			_, err := actions.CompleteAction(ctx, &pb.CompleteActionRequest{Alias: moved.Alias, Outcome: outcome, Result: "42"})
			must(err)
		}
	})
	got, err := executions.GetExecution(ctx, &pb.GetExecutionRequest{ExecutionId: id})
	must(err)
	seen.State, seen.Output = got.Execution.State.String(), json.RawMessage(got.Execution.Output)
	listed, err := executions.ListTasks(ctx, &pb.ListTasksRequest{ExecutionId: id, Filter: "name=fill state=TASK_STATE_SUCCESS"})
	must(err)
	task, err := executions.GetTask(ctx, &pb.GetTaskRequest{TaskExecutionId: listed.Tasks[0].Id})
	must(err)
	var long string // of nearly the largest size: it needs no setting of the client
	must(json.Unmarshal([]byte(task.Task.Result), &long))
	seen.Long = len(long)

	request.RequestId = newUUID()
	_, err = executions.StartExecution(ctx, request)
	seen.Taken = refusalOf(err)
	_, err = executions.StartExecution(ctx, &pb.StartExecutionRequest{Workflow: "order", Input: "[]", ExecutionId: "x"})
	seen.Invalid = refusalOf(err)
	_, err = executions.GetExecution(ctx, &pb.GetExecutionRequest{ExecutionId: newUUID()})
	seen.Unknown = refusalOf(err)
}

// repair does what an operator does. Each step goes on with the state that it has waited for.
func repair() {
	id := start(&pb.StartExecutionRequest{Workflow: "repair", Input: `{"seconds": "soon"}`, RequestId: newUUID()}).Execution.Id
	_, err := executions.PauseExecution(ctx, &pb.PauseExecutionRequest{ExecutionId: id, RequestId: newUUID(), Comment: "a step"})
	must(err)
	seen.Repair = append(seen.Repair, wait(id).State.String())
	for _, tasks := range [][]*pb.ResumeTask{
		nil,
		{{Task: "pack", Input: `{"seconds": 0}`}},         // without it `pack` has failed
		{{Task: "send", Skip: true, Output: `"by hand"`}}, // without it `send` has failed
	} {
		resume := &pb.ResumeExecutionRequest{ExecutionId: id, RequestId: newUUID(), Comment: "a step", Tasks: tasks}
		_, err = executions.ResumeExecution(ctx, resume)
		must(err)
		seen.Repair = append(seen.Repair, wait(id).State.String())
	}
	var output struct{ Sent string }
	must(json.Unmarshal([]byte(wait(id).Output), &output))
	seen.Sent = output.Sent
	again, err := executions.RerunExecution(ctx, &pb.RerunExecutionRequest{
		ExecutionId: id, StartFrom: pb.RerunFrom_RERUN_FROM_BEGINNING, Input: `{"seconds": 0.1}`})
	must(err)
	seen.RerunOf = again.Execution.Labels["rerun-of"] == id
	seen.Repair = append(seen.Repair, wait(again.Execution.Id).State.String())
}

func main() {
	channel, err := grpc.Dial(os.Args[1], grpc.WithInsecure(), grpc.WithUnaryInterceptor(withDeadline))
	must(err)
	actions, executions = pb.NewActionServiceClient(channel), pb.NewExecutionServiceClient(channel)
	info, err := pb.NewSystemServiceClient(channel).GetServerInfo(ctx, &pb.GetServerInfoRequest{})
	must(err)
	for _, language := range info.Languages {
		seen.Languages = append(seen.Languages, language.String())
	}
	text, err := os.ReadFile(os.Args[2])
	must(err)
	_, err = pb.NewWorkflowServiceClient(channel).CreateDefinitions(ctx, &pb.CreateDefinitionsRequest{Text: string(text)})
	must(err)
	order()
	repair()
	fmt.Println(toJSON(seen))
}
