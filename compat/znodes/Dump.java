import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.List;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/** Prints every znode: path, whether it is ephemeral, its data version, its data. */
public class Dump {
    public static void main(String[] args) throws Exception {
        ZooKeeper zookeeper = new ZooKeeper(args[0], 10000, event -> { });
        walk(zookeeper, "/");
        zookeeper.close();
    }

    private static void walk(ZooKeeper zookeeper, String path) throws Exception {
        Stat stat = new Stat();
        byte[] data;
        List<String> children;
        try {
            data = zookeeper.getData(path, false, stat);
            children = zookeeper.getChildren(path, false);
        } catch (org.apache.zookeeper.KeeperException.NoNodeException gone) {
            return;
        }
        // The client crate cannot write null, only no bytes; Kafka reads both alike in these nodes.
        String text = data == null ? "" : new String(data, StandardCharsets.UTF_8);
        if (text.indexOf('\n') >= 0 || text.indexOf('\t') >= 0 || text.indexOf('\uFFFD') >= 0) {
            text = "base64:" + Base64.getEncoder().encodeToString(data);
        }
        System.out.println(path + "\t" + (stat.getEphemeralOwner() != 0) + "\t" + stat.getVersion() + "\t" + text);
        children.sort(null);
        for (String child : children) {
            walk(zookeeper, path.equals("/") ? "/" + child : path + "/" + child);
        }
    }
}
