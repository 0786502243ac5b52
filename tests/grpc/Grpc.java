// gRPC client and server of the oracle, by grpc-java: `Grpc serve` or `Grpc call`. See src/grpc/mod.rs for what is said.
import io.grpc.*;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.NettyServerBuilder;
import java.io.*;
import java.net.InetSocketAddress;
import java.util.*;
import java.util.concurrent.*;

public class Grpc {
    static final int METADATA = 131072;
    static final Metadata.Key<String> ANSWER = Metadata.Key.of("x-answer", Metadata.ASCII_STRING_MARSHALLER);
    static final MethodDescriptor.Marshaller<byte[]> PLAIN = new MethodDescriptor.Marshaller<>() {
        public InputStream stream(byte[] value) {
            return new ByteArrayInputStream(value);
        }

        public byte[] parse(InputStream stream) {
            try {
                return stream.readAllBytes();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    };

    static MethodDescriptor<byte[], byte[]> method(String path, MethodDescriptor.MethodType type) {
        return MethodDescriptor.newBuilder(PLAIN, PLAIN).setFullMethodName(path).setType(type).build();
    }

    static byte[] bytes(int size, char of) {
        byte[] bytes = new byte[size];
        Arrays.fill(bytes, (byte) of);
        return bytes;
    }

    static ServerCall.Listener<byte[]> answer(ServerCall<byte[], byte[]> call, Metadata sent) {
        String[] words = sent.get(ANSWER).split(" ");
        String mode = words[0];
        int status = Integer.parseInt(words[1]), count = Integer.parseInt(words[2]);
        byte[] payload = bytes(Integer.parseInt(words[3]), 'a');
        boolean reads = mode.equals("after") || mode.equals("echo");
        var listener = new ServerCall.Listener<byte[]>() {
            boolean begun;

            void send() {
                if (!begun) call.sendHeaders(new Metadata());
                begun = true;
                call.sendMessage(payload);
            }

            void finish() {
                for (int each = 0; each < count; each++) send();
                if (mode.equals("hang")) return;
                if (!begun && status == 0) call.sendHeaders(new Metadata());
                call.close(Status.fromCodeValue(status).withDescription("as asked"), new Metadata());
            }

            @Override
            public void onMessage(byte[] message) {
                if (mode.equals("echo")) send();
                call.request(1);
            }

            @Override
            public void onHalfClose() {
                if (reads) finish();
            }
        };
        if (reads) call.request(1);
        else listener.finish();
        return listener;
    }

    static void serve() throws Exception {
        var registry = new HandlerRegistry() {
            @Override
            public ServerMethodDefinition<?, ?> lookupMethod(String name, String authority) {
                return ServerMethodDefinition.create(method(name, MethodDescriptor.MethodType.BIDI_STREAMING), Grpc::answer);
            }
        };
        Server server = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", 0)).fallbackHandlerRegistry(registry)
            .maxInboundMetadataSize(METADATA).permitKeepAliveTime(1, TimeUnit.SECONDS).permitKeepAliveWithoutCalls(true)
            .build().start();
        System.out.println(server.getPort());
        System.in.readAllBytes();
        System.exit(0);
    }

    record Call(String number, int port, String shape, int messages, int size, String ending, int expected, Metadata headers) {
        static Call read(String line) {
            String[] words = line.split("\t");
            var headers = new Metadata();
            for (int at = 7; at < words.length; at++) {
                int equals = words[at].indexOf('=');
                String name = words[at].substring(0, equals), value = words[at].substring(equals + 1);
                if (name.endsWith("-bin")) headers.put(Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER), value.getBytes());
                else headers.put(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER), value);
            }
            return new Call(words[0], Integer.parseInt(words[1]), words[2], Integer.parseInt(words[3]), Integer.parseInt(words[4]),
                words[5], Integer.parseInt(words[6]), headers);
        }

        MethodDescriptor.MethodType type() {
            return switch (shape) {
                case "unary" -> MethodDescriptor.MethodType.UNARY;
                case "client" -> MethodDescriptor.MethodType.CLIENT_STREAMING;
                case "server" -> MethodDescriptor.MethodType.SERVER_STREAMING;
                default -> MethodDescriptor.MethodType.BIDI_STREAMING;
            };
        }
    }

    static void one(Channel channel, Call made, Call ping) throws Exception {
        var rpc = channel.newCall(method("oracle.Calls/" + made.number, made.type()), CallOptions.DEFAULT);
        var ended = new CompletableFuture<Status>();
        var first = new CompletableFuture<Void>();
        rpc.start(new ClientCall.Listener<>() {
            @Override
            public void onMessage(byte[] message) {
                if (made.ending.equals("first")) first.complete(null);
                else rpc.request(1);
            }

            @Override
            public void onClose(Status status, Metadata trailers) {
                first.complete(null);
                ended.complete(status);
            }
        }, made.headers);
        rpc.request(1);
        byte[] payload = bytes(made.size, 'q');
        for (int sent = 0; sent < made.messages; sent++) rpc.sendMessage(payload);
        rpc.halfClose();
        // Not before: a call that is cancelled takes no more.
        if (made.ending.equals("first")) {
            first.get();
            rpc.cancel("the first will do", null);
        }
        if (ping != null) {
            one(channel, ping, null);
            rpc.cancel("it is silent", null);
        }
        Status status = ended.get();
        if (status.getCode().value() != made.expected) System.out.println(made.number + " ended with " + status);
    }

    static void work(Channel channel, Queue<Call[]> calls) {
        try {
            for (Call[] next = calls.poll(); next != null; next = calls.poll()) one(channel, next[0], next[1]);
        } catch (Exception error) {
            throw new RuntimeException(error);
        }
    }

    static ManagedChannel connect(int port) throws Exception {
        var channel = NettyChannelBuilder.forAddress("127.0.0.1", port).usePlaintext().maxInboundMetadataSize(METADATA)
            .keepAliveTime(10, TimeUnit.SECONDS).keepAliveWithoutCalls(true).build();
        for (var state = channel.getState(true); state != ConnectivityState.READY; state = channel.getState(true)) {
            var changed = new CountDownLatch(1);
            channel.notifyWhenStateChanged(state, changed::countDown);
            changed.await();
        }
        return channel;
    }

    static void call(int connections, int concurrent) throws Exception {
        var channels = new HashMap<Integer, List<ManagedChannel>>();
        var waiting = new LinkedHashMap<Integer, List<Call>>();
        var threads = Executors.newCachedThreadPool();
        var input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            if (!line.isEmpty()) {
                Call made = Call.read(line);
                waiting.computeIfAbsent(made.port, port -> new ArrayList<>()).add(made);
                continue;
            }
            var working = new ArrayList<Future<?>>();
            for (var entry : waiting.entrySet()) {
                var opened = channels.computeIfAbsent(entry.getKey(), port -> new ArrayList<>());
                while (opened.size() < connections) opened.add(connect(entry.getKey()));
                List<Call> calls = entry.getValue();
                int part = (calls.size() + connections - 1) / connections;
                for (int number = 0; number < connections; number++) {
                    var queue = new ConcurrentLinkedQueue<Call[]>();
                    for (int at = number * part; at < Math.min((number + 1) * part, calls.size()); at++) {
                        boolean silent = calls.get(at).ending.equals("silent");
                        queue.add(new Call[] {calls.get(at), silent ? calls.get(++at) : null});
                    }
                    var channel = opened.get(number);
                    for (int worker = 0; worker < concurrent; worker++) working.add(threads.submit(() -> work(channel, queue)));
                }
            }
            for (var each : working) each.get();
            waiting.clear();
            System.out.println("done");
        }
        System.exit(0);
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("serve")) serve();
        else call(Integer.parseInt(arguments[1]), Integer.parseInt(arguments[2]));
    }
}
