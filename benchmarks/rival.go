// Go's servers: "net" answers as the other rivals' bare protocols do, and
// "http" is net/http, drained by Server.Shutdown at SIGTERM.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"

func serve(connection net.Conn, chunks int) {
	defer connection.Close()
	buffer := make([]byte, 65536)
	chunk := make([]byte, 65536)
	for {
		n, err := connection.Read(buffer)
		if err != nil {
			return
		}
		_, path, _ := bytes.Cut(buffer[:n], []byte("/"))
		switch path[0] {
		case 'b':
			for i := 0; i < chunks; i++ {
				if _, err := connection.Write(chunk); err != nil {
					return
				}
			}
			return
		case 'c':
			connection.Write([]byte(answer))
			return
		case 'u':
			connection.Write([]byte(answer))
			connection.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, connection)
			return
		default:
			connection.Write([]byte(answer))
		}
	}
}

func main() {
	term := make(chan os.Signal, 1)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	if os.Args[1] == "net" {
		chunks, _ := strconv.Atoi(os.Args[2])
		for {
			connection, err := listener.Accept()
			if err != nil {
				panic(err)
			}
			go serve(connection, chunks)
		}
	}
	handle := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Write([]byte("hello\n"))
	}
	signal.Notify(term, syscall.SIGTERM)
	server := &http.Server{Handler: http.HandlerFunc(handle)}
	go server.Serve(listener)
	<-term
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
