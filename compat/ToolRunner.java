import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Apache Kafka's command-line tools one after the other in one JVM, which costs a tenth of a
 * JVM each. A line of input is the main class, the standard input and the arguments, each in
 * base64, with spaces between; the answer is a line of exit code, stdout and stderr.
 */
public class ToolRunner {
    /** Thrown instead of ending the JVM. */
    static final class Ended extends Error {
        final int code;

        Ended(int code) {
            super(null, null, false, false);
            this.code = code;
        }
    }

    /** What System.out and System.err write to now: Scala's Console keeps the stream it found first. */
    static final class Switch extends OutputStream {
        ByteArrayOutputStream to = new ByteArrayOutputStream();

        @Override
        public synchronized void write(int b) {
            to.write(b);
        }

        @Override
        public synchronized void write(byte[] b, int from, int length) {
            to.write(b, from, length);
        }

        synchronized String take() {
            String text = Base64.getEncoder().encodeToString(to.toByteArray());
            to = new ByteArrayOutputStream();
            return text.isEmpty() ? "-" : text;
        }
    }

    public static void main(String[] args) throws Exception {
        PrintStream answers = System.out;
        Switch out = new Switch();
        Switch err = new Switch();
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        int[] first = {-1};
        Exit.Procedure procedure = (code, message) -> {
            if (first[0] < 0) {
                first[0] = code;
            }
            throw new Ended(code);
        };
        Exit.setExitProcedure(procedure);
        Exit.setHaltProcedure(procedure);
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = input.readLine()) != null; ) {
            String[] words = line.split(" ");
            for (int i = 0; i < words.length; i++) {
                words[i] = words[i].equals("-") ? "" : new String(Base64.getDecoder().decode(words[i]), StandardCharsets.UTF_8);
            }
            System.setIn(new ByteArrayInputStream(words[1].getBytes(StandardCharsets.UTF_8)));
            first[0] = -1;
            int code = 0;
            try {
                Class.forName(words[0]).getMethod("main", String[].class)
                    .invoke(null, (Object) Arrays.copyOfRange(words, 2, words.length));
            } catch (InvocationTargetException thrown) {
                if (!(thrown.getCause() instanceof Ended)) {
                    thrown.getCause().printStackTrace();
                    code = 1;
                }
            }
            System.out.flush();
            System.err.flush();
            answers.println((first[0] >= 0 ? first[0] : code) + " " + out.take() + " " + err.take());
            answers.flush();
        }
    }
}
