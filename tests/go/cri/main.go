// Command cri calls one method of the Kubernetes container runtime interface:
//
//	cri SOCKET METHOD [REQUEST]
//
// REQUEST is the method's request as JSON, with the field names of the interface; the answer is
// printed the same way.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// It only bounds how long a failure takes.
const deadline = 2 * time.Minute

func call(conn *grpc.ClientConn, name, request string) (any, error) {
	// No name is a method of both.
	method := reflect.ValueOf(runtime.NewRuntimeServiceClient(conn)).MethodByName(name)
	if !method.IsValid() {
		method = reflect.ValueOf(runtime.NewImageServiceClient(conn)).MethodByName(name)
	}
	if !method.IsValid() {
		return nil, fmt.Errorf("no method is called %s", name)
	}
	argument := reflect.New(method.Type().In(1).Elem())
	if err := json.Unmarshal([]byte(request), argument.Interface()); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	results := method.Call([]reflect.Value{reflect.ValueOf(ctx), argument})
	err, _ := results[1].Interface().(error)
	return results[0].Interface(), err
}

func run(arguments []string) error {
	if len(arguments) < 2 || len(arguments) > 3 {
		return fmt.Errorf("usage: cri SOCKET METHOD [REQUEST]")
	}
	conn, err := grpc.NewClient("unix://"+arguments[0],
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	request := "{}"
	if len(arguments) == 3 {
		request = arguments[2]
	}
	answer, err := call(conn, arguments[1], request)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cri:", err)
		os.Exit(1)
	}
}
