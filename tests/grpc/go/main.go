// gRPC client and server of the oracle, by grpc-go: `main serve` or `main call`. See src/grpc/mod.rs for what is said.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// plain stands in for the codec of protocol buffers: messages are bytes.
type plain struct{}

func (plain) Marshal(value interface{}) ([]byte, error) { return *value.(*[]byte), nil }
func (plain) Unmarshal(data []byte, value interface{}) error {
	*value.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (plain) Name() string { return "proto" }

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return value
}

func answer(_ interface{}, stream grpc.ServerStream) error {
	sent, _ := metadata.FromIncomingContext(stream.Context())
	words := strings.Split(sent.Get("x-answer")[0], " ")
	mode, code, count := words[0], number(words[1]), number(words[2])
	payload := []byte(strings.Repeat("a", number(words[3])))
	if mode == "after" || mode == "echo" {
		for {
			var message []byte
			err := stream.RecvMsg(&message)
			if err == io.EOF {
				break
			}
			if err == nil && mode == "echo" {
				err = stream.SendMsg(&payload)
			}
			if err != nil {
				return err
			}
		}
	}
	for ; count > 0; count-- {
		if err := stream.SendMsg(&payload); err != nil {
			return err
		}
	}
	if mode == "hang" {
		<-stream.Context().Done()
	}
	return status.Error(codes.Code(code), "as asked")
}

func serve() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	allowed := keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}
	server := grpc.NewServer(grpc.UnknownServiceHandler(answer), grpc.KeepaliveEnforcementPolicy(allowed))
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go server.Serve(listener)
	io.Copy(io.Discard, os.Stdin)
}

type call struct {
	number, port, shape string
	messages, size      int
	ending              string
	expected            int
	headers             []string
}

func read(line string) *call {
	words := strings.Split(line, "\t")
	made := &call{words[0], words[1], words[2], number(words[3]), number(words[4]), words[5], number(words[6]), nil}
	for _, header := range words[7:] {
		name, value, _ := strings.Cut(header, "=")
		made.headers = append(made.headers, name, value)
	}
	return made
}

func carryOut(connection *grpc.ClientConn, made, ping *call) error {
	around, cancel := context.WithCancel(context.Background())
	defer cancel()
	around = metadata.AppendToOutgoingContext(around, made.headers...)
	path := "/oracle.Calls/" + made.number
	payload, message := []byte(strings.Repeat("q", made.size)), []byte(nil)
	if made.shape == "unary" {
		return connection.Invoke(around, path, &payload, &message)
	}
	description := &grpc.StreamDesc{ClientStreams: made.shape != "server", ServerStreams: made.shape != "client"}
	stream, err := connection.NewStream(around, description, path)
	if err != nil {
		return err
	}
	for sent := 0; sent < made.messages; sent++ {
		// At an error what has come tells more.
		if stream.SendMsg(&payload) != nil {
			break
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if made.ending == "silent" {
		one(connection, ping, nil)
		cancel()
	}
	for {
		err := stream.RecvMsg(&message)
		if err == io.EOF || (err == nil && made.shape == "client") {
			return nil
		}
		if err != nil {
			return err
		}
		if made.ending == "first" {
			// Waiting for what comes of it would not do: where a part of the next message is there, it is "unexpected EOF".
			cancel()
			return status.FromContextError(around.Err()).Err()
		}
	}
}

func one(connection *grpc.ClientConn, made, ping *call) {
	err := carryOut(connection, made, ping)
	if code := status.Code(err); int(code) != made.expected {
		fmt.Println(made.number, "ended with", code, err)
	}
}

// work carries out one connection's calls, some at a time.
func work(connection *grpc.ClientConn, calls []*call, concurrent int, all *sync.WaitGroup) {
	queue := make(chan [2]*call, len(calls))
	for at := 0; at < len(calls); at++ {
		if calls[at].ending == "silent" {
			queue <- [2]*call{calls[at], calls[at+1]}
			at++
		} else {
			queue <- [2]*call{calls[at]}
		}
	}
	close(queue)
	for ; concurrent > 0; concurrent-- {
		all.Add(1)
		go func() {
			defer all.Done()
			for next := range queue {
				one(connection, next[0], next[1])
			}
		}()
	}
}

func dial(port string) *grpc.ClientConn {
	pings := keepalive.ClientParameters{Time: 10 * time.Second, PermitWithoutStream: true}
	connection, err := grpc.Dial("127.0.0.1:"+port, grpc.WithInsecure(), grpc.WithBlock(), grpc.WithKeepaliveParams(pings))
	if err != nil {
		panic(err)
	}
	return connection
}

func callAll(connections, concurrent int) {
	opened, waiting := map[string][]*grpc.ClientConn{}, map[string][]*call{}
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<20)
	for input.Scan() {
		if line := input.Text(); line != "" {
			made := read(line)
			waiting[made.port] = append(waiting[made.port], made)
			continue
		}
		var all sync.WaitGroup
		for port, calls := range waiting {
			for len(opened[port]) < connections {
				opened[port] = append(opened[port], dial(port))
			}
			part := (len(calls) + connections - 1) / connections
			for at, connection := range opened[port] {
				work(connection, calls[min(at*part, len(calls)):min((at+1)*part, len(calls))], concurrent, &all)
			}
		}
		all.Wait()
		waiting = map[string][]*call{}
		fmt.Println("done")
	}
}

func main() {
	encoding.RegisterCodec(plain{})
	if os.Args[1] == "serve" {
		serve()
	} else {
		callAll(number(os.Args[2]), number(os.Args[3]))
	}
}
