// HTTP client of the oracle: rows of calls on stdin, `run` performs them; the format is in `tests/src/clients.rs`.
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

public class Client {
    static final Map<String, HttpClient> CLIENTS = new LinkedHashMap<>();

    static HttpClient client(String group) {
        synchronized (CLIENTS) {
            return CLIENTS.computeIfAbsent(group, ignored -> HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build());
        }
    }

    static void say(Object... words) {
        List<String> texts = new ArrayList<>();
        for (Object word : words) texts.add(String.valueOf(word));
        synchronized (System.out) {
            System.out.println(String.join("\t", texts));
        }
    }

    static void call(String[] row) {
        try {
            String host = row[2].contains(":") ? "[" + row[2] + "]" : row[2];
            int size = Integer.parseInt(row[7]);
            byte[] bytes = new byte[size];
            BodyPublisher body = size == 0 ? BodyPublishers.noBody() : BodyPublishers.ofByteArray(bytes);
            if (row[4].equals("chunked")) body = BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(bytes));
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create("http://" + host + ":" + row[3] + row[6]))
                    .timeout(Duration.ofSeconds(20))
                    .expectContinue(row[4].equals("expect"))
                    .method(row[5], body);
            for (int i = 8; i < row.length; i++) {
                String[] header = row[i].split(": ", 2);
                request.header(header[0], header[1]);
            }
            say(row[0], client(row[1]).send(request.build(), HttpResponse.BodyHandlers.ofByteArray()).statusCode());
        } catch (Exception error) {
            say(row[0], "error", error);
        }
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        Map<String, List<String[]>> groups = new LinkedHashMap<>();
        say("ready");
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            if (!line.equals("run")) {
                String[] row = line.split("\t");
                groups.computeIfAbsent(row[1], ignored -> new ArrayList<>()).add(row);
                continue;
            }
            List<Thread> threads = new ArrayList<>();
            for (List<String[]> rows : groups.values()) {
                Thread thread = new Thread(() -> rows.forEach(Client::call));
                thread.start();
                threads.add(thread);
            }
            for (Thread thread : threads) thread.join();
            groups.clear();
            say("done");
        }
        System.exit(0);
    }
}
